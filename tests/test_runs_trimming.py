"""What a saved notebook, log and error may weigh, and what of it stays."""

import json

from planted import cell, write_cells

from journeylab.runs.scrubbing import Scrubber
from journeylab.runs.trimming import MOST_IN_CELL, MOST_IN_LOG, trim_notebook, trimmed_error
from journeylab.runs.worker import finish_folder


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def test_pieces_of_one_stream_are_one_output_in_their_order():
    printed = cell("print()")
    shown = {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {}}
    printed["outputs"] = [stream(["a\n", "b"]), stream("\x1b[31mc\x1b[0m"), stream("e", "stderr"),
                          shown, stream("d")]  # fmt: skip
    trim_notebook({"cells": [printed, cell("text", kind="markdown")]})
    assert printed["outputs"] == [stream("a\nbc"), stream("e", "stderr"), shown, stream("d")]


def test_what_a_cell_prints_keeps_head_and_tail_and_says_how_much_is_gone():
    printed = cell("print()")
    printed["outputs"] = [stream(f"{n:06d}\n") for n in range(200_000)]
    printed["outputs"] += [stream("w" * 900_000, "stderr")]
    trim_notebook({"cells": [printed]})
    out, err = (output["text"] for output in printed["outputs"])
    assert out.startswith("000000\n")
    assert out.endswith("199999\n")
    assert "[... 1,200,000 characters left out ...]" in out
    assert len(out) + len(err) < MOST_IN_CELL + 200


def test_a_long_result_and_a_long_error_are_cut_and_a_record_is_not():
    failing = cell("raise")
    record = {"kind": "text", "name": "x", "value": "v" * 300_000}
    mime = "application/vnd.journeylab.record+json"
    failing["outputs"] = [
        {"output_type": "execute_result", "metadata": {}, "execution_count": 1,
         "data": {"text/plain": "y" * 900_000, "text/html": "<p>" * 900_000, mime: record}},
        {"output_type": "error", "ename": "E", "evalue": "m" * 900_000,
         "traceback": ["\x1b[0;31mhead\x1b[0m", "z" * 900_000, "tail"]},
    ]  # fmt: skip
    trim_notebook({"cells": [failing]})
    assert len(json.dumps(failing)) < MOST_IN_CELL + 300_000 + 30_000
    result, error = failing["outputs"]
    assert result["data"][mime] == record
    assert len(error["traceback"]) == 1
    assert error["traceback"][0].startswith("head\nz")
    assert error["traceback"][0].endswith("z\ntail")


def test_the_error_of_a_manifest_is_short():
    error = {"cell": 3, "name": "E", "message": "m" * 2_800_000, "traceback": "t" * 2_800_000}
    kept = trimmed_error(error)
    assert len(json.dumps(kept)) < 23_000
    assert "[... 2,798,000 characters left out ...]" in kept["message"]


def test_a_long_log_keeps_its_ends(tmp_path):
    folder = tmp_path / "run" / "30_clv"
    source = write_cells(tmp_path / "30_clv.ipynb", [cell("1")])
    folder.mkdir(parents=True)
    line = "\x1b[32m一行\x1b[0m of a log\n"
    (folder / ".log.partial.txt").write_text("first\n" + line * 200_000 + "last\n", "utf-8")
    finish_folder(folder, source, Scrubber(tmp_path / "run", tmp_path, {}))
    log = (folder / "log.txt").read_text("utf-8")
    assert len(log.encode()) < MOST_IN_LOG + 100
    assert log.startswith("first\n一行 of a log\n")
    assert log.endswith("last\n")
    assert "bytes left out" in log
