"""An execution runs somewhere else; events tell what became of it."""

from django.db import models


class Execution(models.Model):
    status = models.TextField(default="running")

    def __str__(self) -> str:
        return f"execution {self.pk}: {self.status}"


class Change(models.Model):
    """One line of an execution's history. Nothing is unique here: a second effect would show."""

    # Without a constraint: an event may be faster than the execution that it tells of.
    execution = models.ForeignKey(
        Execution, models.CASCADE, related_name="history", db_constraint=False
    )
    status = models.TextField()

    def __str__(self) -> str:
        return f"{self.execution_id} became {self.status}"
