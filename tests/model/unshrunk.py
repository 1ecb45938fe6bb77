"""A plugin of pytest (``-p tests.model.unshrunk``) for the mutants: many examples, so that each is
caught each time, and one that fails is not made shorter, for nobody reads it."""

import os

from hypothesis import Phase, settings

os.environ.setdefault("MODEL_EXAMPLES", "1500")
settings.register_profile("unshrunk", phases=[Phase.generate], database=None)
settings.load_profile("unshrunk")
