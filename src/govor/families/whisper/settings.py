"""What is known of the family without loading it."""

from govor.families.recogniser import RECOGNITION
from govor.families.task import Task

TASK: Task = RECOGNITION
