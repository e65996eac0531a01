"""Commands that are no stages of the pipeline: what they say, no result depends on."""
