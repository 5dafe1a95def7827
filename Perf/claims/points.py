"""The points of the claims: which models are trained, how, and on what.

A point is one student, trained in one way with one seed, and measured. Every student of a set has the same size, sees the
same pictures and is measured in the same way. Epochs are those of the whole training part of a set.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """A data set with the sizes of teacher and student, and the length of their training in epochs."""

    name: str
    source: str  # a script of Fixtures/datasets
    images: tuple  # size and channels
    crop: float  # minimum area of a random crop
    patch: int
    teacher: tuple  # width, depth, heads
    student: tuple
    teacher_epochs: float
    epochs: float
    finetune_epochs: float  # of the images that have labels
    labels: int = 0  # images of each class whose labels are used; 0: all
    batch: int = 128

    @property
    def align(self):
        """Three quarters of each depth, as in the paper (8 of 12 and 17 of 24, counted from 0)."""
        return self.blocks(3, 4)

    def blocks(self, share, of):
        return f"{self.student[1] * share // of - 1}:{self.teacher[1] * share // of - 1}"


# Every tenth image has a label. Fine-tuning with all labels hides what pre-training gave: from random weights the student
# reaches as much. In 2.5 epochs the student learns too little of the teacher for anything to show.
FASHION = Setting(
    "fashion", "fashion-mnist", ("--image-size", 28, "--channels", 1), crop=0.6, patch=4, teacher=(128, 8, 4),
    student=(64, 4, 4), teacher_epochs=25, epochs=10, finetune_epochs=40, labels=600)
# Patches of two pixels: 196 of an image, as in the paper.
FASHION_196 = Setting(
    "fashion-196", FASHION.source, FASHION.images, FASHION.crop, patch=2, teacher=(128, 8, 4), student=(64, 4, 4),
    teacher_epochs=10, epochs=2, finetune_epochs=20, labels=600)
OPENCLIPART = Setting(
    "openclipart", "openclipart", ("--image-size", 64, "--channels", 3), crop=0.5, patch=8, teacher=(192, 8, 6),
    student=(64, 4, 4), teacher_epochs=150, epochs=60, finetune_epochs=40, batch=64)
# Under fifteen minutes on two cores, for a first look.
QUICK = Setting(
    "quick", FASHION.source, FASHION.images, FASHION.crop, patch=4, teacher=(128, 8, 4), student=(64, 4, 4),
    teacher_epochs=12, epochs=5, finetune_epochs=40, labels=100)

DECODER = (64, 2, 4)  # width, depth, heads of the decoder of every model


@dataclass(frozen=True)
class Contender:
    """A way to train the student before it is measured.

    `kind` is distill, pretrain (MAE alone), scratch (fine-tuned from random weights) or logits (fine-tuned from random
    weights with the logits of the fine-tuned teacher). `budget` says how long: the setting's epochs, as much time as the
    distillation, or as much time and that of the teacher's fine-tuning.
    """

    name: str
    kind: str
    budget: str = "epochs"
    flags: tuple = ()
    seeds: int = 3


@dataclass(frozen=True)
class Claim:
    number: int
    title: str
    setting: Setting
    contenders: tuple


DMAE = Contender("distilled", "distill")


def variants(name, flag, values, seeds=1):
    return tuple(Contender(f"{name} {value}", "distill", flags=(flag, str(value)), seeds=seeds) for value in values)


def contenders_of_alone(seeds):
    return (Contender("distilled", "distill", seeds=seeds),
            Contender("MAE, as many epochs", "pretrain", seeds=seeds),
            Contender("MAE, as much time", "pretrain", "time", seeds=seeds),
            Contender("from scratch, as much time", "scratch", "time", seeds=seeds))


def alignments(setting):
    """Everything about the alignment but the common pair, one change at a time. Without a projection widths must be equal, so
    that is not among them."""
    pairs = [setting.blocks(share, 4) for share in (1, 2, 4)]
    aligned = tuple(Contender(f"align {pair}", "distill", flags=("--align", pair), seeds=1) for pair in pairs)
    return aligned + variants("distance", "--alignment-distance", ("L2",)) + variants("projection", "--projection", ("mlp",)) \
        + variants("decoder depth", "--decoder-depth", (8,)) + variants("weight", "--alignment-weight", (0.5, 2, 8))


def views(setting):
    pairs = [flag for share in (2, 3, 4) for flag in ("--align", setting.blocks(share, 4))]
    points = []
    for ratio in (0.75, 0.5, 0.25, 0):
        for name, flags in (("one pair", ()), ("three pairs", tuple(pairs))):
            if ratio == 0.75 and not flags:
                continue
            points.append(Contender(f"teacher at {ratio}, {name}", "distill",
                                    flags=("--teacher-mask-ratio", str(ratio), *flags), seeds=1))
    return tuple(points)


CLAIMS = (
    Claim(1, "Distilled against MAE alone and training from scratch", FASHION, contenders_of_alone(3)),
    Claim(1, "Distilled against MAE alone and training from scratch", OPENCLIPART, contenders_of_alone(1)),
    Claim(2, "Distilled against the logits of the fine-tuned teacher", FASHION, (
        DMAE, Contender("logits, as much time", "logits", "time"),
        # The logits need a fine-tuned teacher; distillation may have that time for itself.
        Contender("distilled, and the time of its fine-tuning", "distill", "time and teacher"))),
    Claim(3, "Mask ratio", FASHION_196, (
        Contender("mask ratio 0.75", "distill"), *variants("mask ratio", "--mask-ratio", (0.9, 0.95, 0.98), seeds=3))),
    Claim(4, "Where and how to align", FASHION, (Contender("distilled", "distill", seeds=1), *alignments(FASHION))),
    Claim(5, "Share of predicted patches", FASHION_196, (
        Contender("predict ratio 1", "distill"), *variants("predict ratio", "--predict-ratio", (0.5, 0.25, 0.1), seeds=3),
        # Without a reconstruction loss only blocks up to the aligned one are trained.
        Contender("last blocks aligned", "distill", flags=("--align", FASHION_196.blocks(4, 4))),
        Contender("last blocks aligned, no decoder", "distill",
                  flags=("--reconstruction-weight", "0", "--align", FASHION_196.blocks(4, 4))))),
    Claim(6, "A teacher that sees more", FASHION, (Contender("distilled", "distill", seeds=1), *views(FASHION))),
    Claim(7, "Precision", FASHION, (Contender("distilled", "distill", seeds=1),
                                    *variants("precision", "--precision", ("bf16",)),
                                    *variants("teacher precision", "--teacher-precision", ("int8",)))),
)
QUICK_CLAIMS = (Claim(1, "Distilled against MAE alone and training from scratch", QUICK, contenders_of_alone(1)),)

# Learning rates are chosen from these, once for each kind of training, with one seed, on a split of the training part.
RATES = {kind: (4e-3, 8e-3, 1.6e-2, 3.2e-2) for kind in ("pretrain", "distill", "scratch", "logits")}
