"""Training KOSMOS-2.5: a small one from scratch, or the released one on your own pages.

```
from kosmos_loader.training import FINE_TUNING, FolderExamples, train

train("run", FolderExamples("pages"), plan=FINE_TUNING, start="microsoft/kosmos-2.5")
```

The model in `run/model` is one that `KosmosPageReader` and `from_pretrained` load as it is.
"""

from __future__ import annotations

from kosmos_loader.training.averaging import average
from kosmos_loader.training.enlarging import double_latents, enlarge, make_heard
from kosmos_loader.training.examples import DrawnExamples, Example, Examples, FolderExamples
from kosmos_loader.training.loop import FINE_TUNING, SCRATCH_TRAINING, Plan, Run, train
from kosmos_loader.training.scores import Scores, Truth, score
from kosmos_loader.training.scratch import Sizes

__all__ = [
    "FINE_TUNING",
    "SCRATCH_TRAINING",
    "DrawnExamples",
    "Example",
    "Examples",
    "FolderExamples",
    "Plan",
    "Run",
    "Scores",
    "Sizes",
    "Truth",
    "average",
    "double_latents",
    "enlarge",
    "make_heard",
    "score",
    "train",
]
