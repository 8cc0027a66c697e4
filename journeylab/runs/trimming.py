"""What a saved notebook, log and error may weigh: head and tail stay, and it says what is gone."""

from pathlib import Path
from typing import Any

from journeylab.report.cleaning import shortened
from journeylab.runs.scrubbing import without_terminal_codes

MOST_IN_MESSAGE = 2_000
MOST_IN_TRACEBACK = 20_000
MOST_IN_CELL = 200_000
MOST_IN_LOG = 2_000_000

_TEXTS = ("text/plain", "text/html", "text/markdown", "text/latex")


def trimmed_error(error: dict[str, Any]) -> dict[str, Any]:
    """An error as the manifest keeps it, with its message and traceback cut."""
    return error | {
        "message": shortened(error["message"], MOST_IN_MESSAGE),
        "traceback": shortened(error["traceback"], MOST_IN_TRACEBACK),
    }


def trim_notebook(notebook: dict[str, Any]) -> None:
    """Take terminal codes out of the outputs of a notebook, and what is too long, in place.

    Neighbouring pieces of one stream become one output. All streams of a cell together, and each
    shown text, keep at most 200,000 characters. Records and pictures stay as they are.
    """
    for cell in notebook["cells"]:
        outputs = _merged(cell.get("outputs", ()))
        budget = MOST_IN_CELL
        for output in outputs:
            match output.get("output_type"):
                case "stream":
                    text = without_terminal_codes(output["text"])
                    output["text"] = shortened(text, budget)
                    budget = max(0, budget - len(output["text"]))
                case "error":
                    _trim_traceback(output)
                case "display_data" | "execute_result":
                    _trim_bundle(output.get("data", {}))
        if "outputs" in cell:
            cell["outputs"] = outputs


def _joined(text: Any) -> str:
    """Text that notebooks keep as one string or as a list of lines."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def _merged(outputs: Any) -> list[dict[str, Any]]:
    """Outputs of a cell with neighbouring pieces of one stream as one, in linear time."""
    merged: list[dict[str, Any]] = []
    pieces: list[list[str]] = []
    for output in outputs:
        if output.get("output_type") != "stream":
            merged.append(output)
            pieces.append([])
            continue
        text = _joined(output.get("text", ""))
        last = merged[-1] if merged else {}
        if last.get("output_type") == "stream" and last.get("name") == output.get("name"):
            pieces[-1].append(text)
        else:
            merged.append(dict(output))
            pieces.append([text])
    for output, texts in zip(merged, pieces, strict=True):
        if texts:
            output["text"] = "".join(texts)
    return merged


def _trim_traceback(output: dict[str, Any]) -> None:
    output["evalue"] = shortened(
        without_terminal_codes(str(output.get("evalue", ""))), MOST_IN_MESSAGE
    )
    frames = [without_terminal_codes(str(frame)) for frame in output.get("traceback", ())]
    if sum(map(len, frames)) > MOST_IN_TRACEBACK:
        frames = [shortened("\n".join(frames), MOST_IN_TRACEBACK)]
    output["traceback"] = frames


def _trim_bundle(data: dict[str, Any]) -> None:
    for mime in _TEXTS:
        if mime in data:
            text = without_terminal_codes(_joined(data[mime]))
            if mime == "text/html" and len(text) > 10 * MOST_IN_CELL:
                # half of an element is none: what is shown as text stands in
                text = f"<p>{len(text):,} characters of HTML left out</p>"
            data[mime] = text if mime == "text/html" else shortened(text, MOST_IN_CELL)


def read_log(path: Path) -> str:
    """A log without terminal codes, at most 2 MB of it; empty where there is none."""
    if not path.exists():
        return ""
    size = path.stat().st_size
    half = MOST_IN_LOG // 2
    with path.open("rb") as file:
        if size <= MOST_IN_LOG:
            content = file.read()
        else:
            head = file.read(half)
            file.seek(size - half)
            left_out = f"\n[... {size - 2 * half:,} bytes left out ...]\n".encode()
            content = head + left_out + file.read()
    return without_terminal_codes(content.decode("utf-8", errors="replace"))
