"""What the encoders' own predictors foresee of hidden patches: a table, maps of energy, and pictures."""

from typing import TYPE_CHECKING

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import significant
from embprobe.page import html
from embprobe.page.charts import bars
from embprobe.page.figures import Figures
from embprobe.page.html import Cell
from embprobe.page.maps import enlarged, heat
from embprobe.page.pictures import grid, webp
from embprobe.pixels import resized
from embprobe.store import Json
from embprobe.study.reading import Study
from embprobe.study.table import half_width
from embprobe.views import Prediction

if TYPE_CHECKING:
    import numpy as np

SHOWN, SIDE = 8, 96  # images, and pixels of each
GREY = 128
COLUMNS = {"r2": "R² ↑", "auc": "AUC ↑", "auc_whitened": "AUC, whitened ↑", "gain_db": "dB over the mean patch ↑"}
WORDS = (
    "Patches of held-out images are hidden, and the predictor that was trained with the encoder says what is there. R²: how "
    "much nearer that is to the truth than the training images' mean at each place. Energy: the distance of prediction and "
    "truth, ‖P(Enc(x)) − Enc(y)‖. AUC: how often an image's own patches have less energy than another's; 0.5 is chance. dB: how "
    "much nearer to the real pixels the imagined patches are than the mean patch. Energies of different encoders have no common "
    "unit; R², AUC and dB do."
)


def what_is_foreseen(study: Study, figures: Figures) -> str:
    """The section; empty where nothing was predicted."""
    predictions = [Prediction(a) for a in study.all if a.stage == "predict"]
    if not predictions:
        return ""
    content = html.text(WORDS) + html.bullets([w for p in predictions for w in warnings(study, p)])
    content += html.table(["encoder", "hidden", "of", *COLUMNS.values()], [line(study, p) for p in predictions])
    content += html.row("".join(foreseen_sheet(study, p, figures) for p in predictions), large=True)
    return content + foreseen_factors(study, predictions, figures)


def json_of(study: Study) -> list[Json]:
    """What every prediction gave, for machines."""
    found = (Prediction(a) for a in study.all if a.stage == "predict")
    return [{"encoder": study.label(p.embeddings), "artefact": p.short, **p.results} for p in found]


def warnings(study: Study, prediction: Prediction) -> list[str]:
    """What such predictions can't be used for, in words."""
    found, who = prediction.results, study.label(prediction.embeddings)
    said = []
    if found["collapsed"]:
        said.append(f"⚠ {who} is collapsed: its embeddings hardly differ between images (by {found['spread']:.2g}).")
    if found["flat"]:
        apart = f"it does not tell an image's own patches from another's (AUC {_text(found['auc'])})"
        said.append(f"⚠ The energy of {who} is flat: {apart}.")
    if found["r2"]["high"] < 0:
        said.append(f"⚠ {who} predicts worse than the training images' mean does (R² {_text(found['r2'])}): its predictor has "
                    "not learned enough to be looked at.")  # fmt: skip
    return said


def line(study: Study, prediction: Prediction) -> list[Cell]:
    """A row of the table."""
    found = prediction.results
    told = [found["protocol"]["masking"], found["protocol"]["of"]]
    return [Cell(study.label(prediction.embeddings)), *map(Cell, told), *(_cell(found.get(key)) for key in COLUMNS)]


def _cell(json: Json) -> Cell:
    if not json or json["value"] is None or json["value"] != json["value"]:
        return Cell("–")
    estimate = Estimate.of(json)
    return Cell(significant(estimate.value), half_width(estimate), sort=estimate.value)


def _text(json: Json) -> str:
    return f"{json['value']:.2f} [{json['low']:.2f}, {json['high']:.2f}]"


# ---- pictures


def foreseen_sheet(study: Study, prediction: Prediction, figures: Figures) -> str:
    """The images, what of them was shown where that is not all in turn, energies, and pictures where there are some."""
    import numpy as np

    at = np.arange(min(SHOWN, len(prediction.rows)))
    real = _sized(prediction.images.array.take(np.array(prediction.rows)[at]))
    hidden = enlarged((prediction.asked.take(at) > 0)[..., None], real.shape[1:3])
    rows = {"image": real}
    if not hidden.all():
        rows["context"] = np.where(hidden, np.uint8(GREY), real)
    rows["energy"] = energy_maps(prediction.energy.take(at), real.shape[1:3])
    names = {"imagined": "imagined", "decoded": "from the truth", "blank": "mean patch"}
    rows |= {names[name]: _sized(array.take(at)) for name, array in prediction.pictures.items()}
    drawn = grid(np.concatenate(list(rows.values())), len(at))
    figures.sheet(f"foreseen-{prediction.short}", drawn, tuple(rows))
    data, size = webp(drawn, len(at), drawn[..., 0].size)
    return html.picture(data, f"{study.label(prediction.embeddings)}: {caption(prediction)}", tuple(rows), size)


def caption(prediction: Prediction) -> str:
    """How the pictures came about, and how near they are."""
    found = prediction.results
    said = [f"masking {found['protocol']['masking']}; energy from dark (low) to bright"]
    psnr = {name: f"{value:.1f} dB" for name, value in (found.get("psnr") or {}).items()}
    if psnr and found["protocol"]["of"].startswith("normalised pixels"):
        how = "imagined are the network's own pixels, each patch at its true mean and contrast"
        said.append(f"{how}: {psnr['imagined']}, the mean patch {psnr['blank']}")
    elif psnr:
        of = f"{psnr['imagined']}, true ones {psnr['decoded']}, the mean patch {psnr['blank']}"
        said.append(f"predicted embeddings through VAE and decoder: {of}")
    return "; ".join(said) + "."


def energy_maps(energy_Nhw: "np.ndarray", size: tuple[int, int]) -> "np.ndarray":
    """Energies as colours on one scale for all of them; black where nothing was asked."""
    import numpy as np

    low, high = (float(np.nanquantile(energy_Nhw, share)) for share in (0.02, 0.98))
    scaled = (np.nan_to_num(energy_Nhw, nan=low) - low) / max(high - low, 1e-12)
    return enlarged(heat(scaled), size)


def _sized(images_NHWC: "np.ndarray") -> "np.ndarray":
    """RGB at the size of the sheet; one channel becomes grey, more than three lose the others."""
    import numpy as np

    shown = images_NHWC[..., :3] if images_NHWC.shape[-1] >= 3 else np.repeat(images_NHWC[..., :1], 3, -1)
    height, width = shown.shape[1:3]
    return resized(np.ascontiguousarray(shown), (SIDE, max(1, round(SIDE * width / height))))


# ---- factors


def foreseen_factors(study: Study, predictions: list[Prediction], figures: Figures) -> str:
    """Bars: what is read of each planted factor from predicted embeddings, beside true ones."""
    groups: dict[str, dict[str, tuple[float, float | None, float | None]]] = {}
    for prediction in predictions:
        label = study.label(prediction.embeddings)
        for name, factor in (prediction.results.get("factors") or {}).items():
            kind = "accuracy" if factor["kind"] == "category" else "R²"
            for word, of in (("there", "true"), ("foreseen", "predicted")):
                if factor[word]["value"] is not None and factor[word]["value"] == factor[word]["value"]:
                    found = Estimate.of(factor[word])
                    bar = (found.value, found.low, found.high)
                    groups.setdefault(f"{name} ({kind})", {})[f"{label}, {of} patches"] = bar
    chart = bars(groups, "read linearly from the mean patch") if groups else ""
    if not chart:
        return ""
    figures.drawing("foreseen-factors", chart)
    words = "Which factors can be foreseen: a factor that is read from the true patches and not from the predicted ones can't."
    return html.text(words) + chart
