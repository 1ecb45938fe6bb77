"""What the tests' jobs leave behind."""

from django.db import models


class Effect(models.Model):
    """One effect of a job. Nothing is unique here: the number of rows is what a test counts."""

    key = models.TextField()
    note = models.TextField()
    pid = models.IntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.note} of {self.key} by {self.pid}"


def effects(key: str, note: str = "effect") -> int:
    """How often this effect has happened."""
    return Effect.objects.filter(key=key, note=note).count()
