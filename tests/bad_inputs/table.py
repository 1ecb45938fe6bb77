"""All bad inputs, by the moment at which they are refused."""

from tests.bad_inputs.after_the_body import LEASED, TRANSACTIONAL
from tests.bad_inputs.at_call import CALL, RECORD
from tests.bad_inputs.at_import import IMPORT
from tests.bad_inputs.by_operators import OPERATORS
from tests.bad_inputs.in_keys import KEY
from tests.bad_inputs.in_settings import SETTINGS

MOMENTS = (IMPORT, SETTINGS, KEY, CALL, RECORD, TRANSACTIONAL, LEASED, OPERATORS)
