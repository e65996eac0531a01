"""What the server of worker processes imports once, so that it forks them with it."""

from spacewarps.importing import import_quickly

import_quickly("spacewarps.search.candidate")
# torch's optimisers import its compiler when they are first used.
import_quickly("torch._dynamo")
