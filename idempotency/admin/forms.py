"""What an operator types."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from idempotency import results
from idempotency.conf import conf
from idempotency.exceptions import ResultNotStorable


class ReasonForm(forms.Form):
    """Each is done with a reason."""

    reason = forms.CharField(
        max_length=500,
        label=_("Reason"),
        help_text=_("Why, for those who read the history and the events later."),
        widget=forms.TextInput(attrs={"autofocus": True, "class": "vTextField"}),
    )


class ResultForm(ReasonForm):
    result = forms.CharField(
        required=False,
        label=_("Result, as JSON"),
        help_text=_('What every later delivery is answered with, such as "ch_1". Empty: null.'),
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}),
    )

    def clean_result(self) -> Any:
        if not (text := self.cleaned_data["result"]):
            return None
        try:
            value = json.loads(text)
            results.encode(value, limit=conf().MAX_RESULT_BYTES)
        except (ValueError, RecursionError) as error:
            said = _('This is no JSON that can be read: %(error)s. A text is quoted: "ch_1".')
            raise forms.ValidationError(said, params={"error": error}) from None
        except ResultNotStorable as error:
            said = _("This cannot be stored: %(error)s")
            raise forms.ValidationError(said, params={"error": error}) from None
        return value


class ForceForm(ReasonForm):
    force = forms.BooleanField(
        required=False, label=_("I know that these processes are dead: release them all the same")
    )
