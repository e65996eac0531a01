"""The network: blocks, the progressive model, normalisers, changes of weights, storage."""
