"""A suite's results for people, as Markdown tables that grow row by row, and for programs, as one JSON object."""

from collections.abc import Mapping, Sequence
from typing import Any

from unclip_jax.evaluation.shapes_accuracy import ATTRIBUTES
from unclip_jax.evaluation.suites import ACCURACY_ROWS, STAGE_ROWS, UPSAMPLER_ROWS

COLUMNS = {"row": 14, "n": 4, "right": 7, "95 % interval": 14} | {name: max(len(name), 7) for name in ATTRIBUTES}


def table_lines(row: str, result: Mapping[str, Any], before: Sequence[str] = ()) -> list[str]:
    """What one more row adds to the tables.

    Accuracies fill one table and all else a second; the first row of either brings the table's head along. `before`:
    the rows that have been printed.
    """
    if row in ACCURACY_ROWS:
        first = not any(name in ACCURACY_ROWS for name in before)
        head = ["", _line({name: name for name in COLUMNS}), _rule(COLUMNS.values())] if first else []
        chance = [_accuracy_line("(chance)", result["chance"])] if "chance" in result else []
        return [*head, _accuracy_line(row, result), *chance]
    first = all(name in ACCURACY_ROWS for name in before)
    head = ["", f"| {'measure':20} | value |", _rule((20, 5))] if first else []
    return [*head, f"| {row:20} | {_measure_text(row, result)} |"]


def as_json(results: Mapping[str, Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The results as one object: a key for each row, but `diversity` is the ratio alone, with its parts as
    `diversity_spread`, and `stages` holds what CLIP and the prior are worth by themselves; and `settings`."""
    out: dict[str, Any] = {"settings": dict(settings)}
    for row, result in results.items():
        if row in STAGE_ROWS:
            out.setdefault("stages", {})[row] = dict(result)
        elif row == "diversity":
            out["diversity"] = result["ratio"]
            out["diversity_spread"] = {name: value for name, value in result.items() if name != "ratio"}
        else:
            out[row] = dict(result)
    return out


def _accuracy_line(row: str, result: Mapping[str, Any]) -> str:
    cells = {name: _percent(share) for name, share in result["attributes"].items()}
    if "interval" in result:
        low, high = result["interval"]
        cells |= {"n": str(result["n"]), "95 % interval": f"{100 * low:.1f} to {100 * high:.1f}"}
    return _line({"row": row, "right": _percent(result["accuracy"]), **cells})


def _measure_text(row: str, result: Mapping[str, Any]) -> str:
    if row in UPSAMPLER_ROWS:
        closed = result["gap_closed"]
        gap = "no gap" if closed is None else f"{_percent(closed)} of the gap closed"
        return (
            f"{result['psnr_gain']:+.2f} dB over bicubic's {result['psnr_bicubic']:.2f}; flat "
            f"{_percent(result['flat'])}, bicubic {_percent(result['flat_bicubic'])}, "
            f"true {_percent(result['flat_true'])}: {gap} (n {result['n']})"
        )
    if row == "diversity":
        counts = f"({result['prompts']} prompts, {result['pictures']} readable pictures of one object)"
        if result["ratio"] is None:
            return f"none could be measured {counts}"
        return f"{result['ratio']:.2f}: {result['spread']:.1f} px, data {result['spread_of_data']:.1f} px {counts}"
    if row == "flatness":
        share = "none could be read" if result["share"] is None else _percent(result["share"])
        return f"{share} of the pixels, of true pictures {_percent(result['share_of_true'])} (n {result['n']})"
    if row == "unnamed":
        told = [_shares_text(name, made, result["shares_of_data"][name]) for name, made in result["shares"].items()]
        return f"{'; '.join(told)} (n {result['n']}; in brackets the data)"
    if row == "clip_retrieval":
        return (
            f"text to image {_percent(result['text_to_image'])}, image to text {_percent(result['image_to_text'])}, "
            f"chance {_percent(1 / result['n'])} (n {result['n']})"
        )
    if row == "clip_attributes":
        shares = ", ".join(f"{attribute} {_percent(share)}" for attribute, share in result["attributes"].items())
        return f"told apart by CLIP alone: {shares} (n {result['n']})"
    return (
        f"{result['cosine']:.3f} to the own picture's embedding, {result['cosine_shuffled']:.3f} to the others' "
        f"(n {result['n']})"
    )


def _shares_text(attribute: str, made: Mapping[str, float], data: Mapping[str, float]) -> str:
    return f"{attribute} " + ", ".join(f"{value} {_percent(made[value])} ({_percent(data[value])})" for value in made)


def _line(cells: Mapping[str, str]) -> str:
    padded = (
        f"{cells.get(name, ''):{width}}" if name == "row" else f"{cells.get(name, ''):>{width}}"
        for name, width in COLUMNS.items()
    )
    return f"| {' | '.join(padded)} |"


def _rule(widths: Sequence[int]) -> str:
    return "|" + "|".join("-" * (width + 2) for width in widths) + "|"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
