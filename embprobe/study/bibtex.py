"""Whom to cite: embprobe, the encoders on a page and the metrics in it, as BibTeX."""

from collections.abc import Sequence

from embprobe.page import html
from embprobe.study.budget import cited_encoders
from embprobe.study.judging import JudgeReport
from embprobe.study.provenance import in_order
from embprobe.study.reading import Study

PAPERS = {  # entry: kind, author, title, where it appeared, year
    "ijepa": ("inproceedings", "Assran, Mahmoud and Duval, Quentin and Misra, Ishan and Bojanowski, Piotr and Vincent, Pascal "
              "and Rabbat, Michael and LeCun, Yann and Ballas, Nicolas",
              "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture", "CVPR", 2023),
    "mae": ("inproceedings", "He, Kaiming and Chen, Xinlei and Xie, Saining and Li, Yanghao and Doll{\\'a}r, Piotr and "
            "Girshick, Ross", "Masked Autoencoders Are Scalable Vision Learners", "CVPR", 2022),
    "dinov2": ("article", "Oquab, Maxime and Darcet, Timoth{\\'e}e and Moutakanni, Th{\\'e}o and others",
               "{DINOv2}: Learning Robust Visual Features without Supervision", "Transactions on Machine Learning Research",
               2024),
    "dinov3": ("article", "Sim{\\'e}oni, Oriane and Vo, Huy V. and Seitzer, Maximilian and others", "{DINOv3}",
               "arXiv:2508.10104", 2025),
    "siglip": ("article", "Tschannen, Michael and Gritsenko, Alexey and Wang, Xiao and others",
               "{SigLIP} 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, Localization, and "
               "Dense Features", "arXiv:2502.14786", 2025),
    "augreg": ("article", "Steiner, Andreas and Kolesnikov, Alexander and Zhai, Xiaohua and Wightman, Ross and Uszkoreit, Jakob "
               "and Beyer, Lucas", "How to Train Your {ViT}? Data, Augmentation, and Regularization in Vision Transformers",
               "Transactions on Machine Learning Research", 2022),
    "fid": ("inproceedings", "Heusel, Martin and Ramsauer, Hubert and Unterthiner, Thomas and Nessler, Bernhard and "
            "Hochreiter, Sepp", "{GANs} Trained by a Two Time-Scale Update Rule Converge to a Local {Nash} Equilibrium",
            "NeurIPS", 2017),
    "fdinfinity": ("inproceedings", "Chong, Min Jin and Forsyth, David",
                   "Effectively Unbiased {FID} and Inception Score and Where to Find Them", "CVPR", 2020),
    "kid": ("inproceedings", "Bi{\\'n}kowski, Miko{\\l}aj and Sutherland, Danica J. and Arbel, Michael and Gretton, Arthur",
            "Demystifying {MMD} {GANs}", "ICLR", 2018),
    "inceptionscore": ("inproceedings", "Salimans, Tim and Goodfellow, Ian and Zaremba, Wojciech and Cheung, Vicki and "
                       "Radford, Alec and Chen, Xi", "Improved Techniques for Training {GANs}", "NeurIPS", 2016),
    "precisionrecall": ("inproceedings", "Kynk{\\\"a}{\\\"a}nniemi, Tuomas and Karras, Tero and Laine, Samuli and Lehtinen, "
                        "Jaakko and Aila, Timo", "Improved Precision and Recall Metric for Assessing Generative Models",
                        "NeurIPS", 2019),
    "densitycoverage": ("inproceedings", "Naeem, Muhammad Ferjad and Oh, Seong Joon and Uh, Youngjung and Choi, Yunjey and "
                        "Yoo, Jaejun", "Reliable Fidelity and Diversity Metrics for Generative Models", "ICML", 2020),
    "authenticity": ("inproceedings", "Alaa, Ahmed and van Breugel, Boris and Saveliev, Evgeny S. and van der Schaar, Mihaela",
                     "How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and Auditing Generative Models",
                     "ICML", 2022),
}  # fmt: skip
OF_METRIC = {
    "fd": "fid",
    "fd_all": "fid",
    "fd_infinity": "fdinfinity",
    "kid": "kid",
    "score": "inceptionscore",
    "precision": "precisionrecall",
    "recall": "precisionrecall",
    "density": "densitycoverage",
    "coverage": "densitycoverage",
    "authenticity": "authenticity",
}


def citations(study: Study, judged: Sequence[JudgeReport]) -> str:
    """The entries of what this page uses, to be copied."""
    filled = {key for judge in judged for row in judge.rows for key in row.values}
    metrics = dict.fromkeys(entry for key, entry in OF_METRIC.items() if key in filled)
    entries = [software(study), *(paper(key) for key in (*cited_encoders(study), *metrics))]
    return html.folded(f"BibTeX ({len(entries)} entries)", html.code("\n\n".join(entries), "BibTeX"))


def software(study: Study) -> str:
    """embprobe in the version that made the last artefact, of the year in which it did."""
    made = next(a for a in reversed(in_order(study.all)) if a.complete).manifest
    version, year = made["versions"].get("embprobe") or "", str(made["finished"])[:4]
    title = "embprobe: what a frozen image encoder keeps and what it throws away"
    return _entry("software", "embprobe", {"title": f"{{{title}}}", "version": version, "year": year})


def paper(key: str) -> str:
    """One entry."""
    kind, author, title, place, year = PAPERS[key]
    venue = {"journal" if kind == "article" else "booktitle": place}
    return _entry(kind, f"{key}{year}", {"author": author, "title": title, **venue, "year": str(year)})


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@{kind}{{{key},\n{lines}}}"
