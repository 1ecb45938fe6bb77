"""As if psycopg had not the private name by which BEGIN travels with a statement:
``pytest -p tests.harness.plain_begin``. Every process that a test starts is told.
"""

import os

os.environ["TEST_PLAIN_BEGIN"] = "1"
