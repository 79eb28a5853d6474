"""What it costs to look inside GPT-2's smallest shape, 124M parameters, with a text of 256 tokens.

    python benchmarks/inspect_124m.py [--tokens 256] [--threads 2] [--out inspect-124m]
    python benchmarks/inspect_124m.py --layers 48 --heads 16 --width 128 --out inspect-large   # a page of nearly 20 MB

Random weights and bytes as tokens, as time and memory do not depend on them; then, where Playwright and a Chromium are
installed, how long the page takes to show something, and to draw all. What is written stays in the folder.
"""

import argparse
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path

import torch

from glassgpt.bench.memory import peak_memory
from glassgpt.inspection.findings import look
from glassgpt.inspection.report import check_out, write_report
from glassgpt.model import ModelConfig, make_model
from glassgpt.tokenizers import ByteTokenizer

TEXT = "Everything inside a model of ours can be looked at, and what is shown is what the model itself computes.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--out", type=Path, default=Path("inspect-124m"))
    options = parser.parse_args()
    check_out(options.out)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=50_304, block_size=1024, n_layer=options.layers, n_head=options.heads, n_embd=options.width
    )
    model = make_model(config).eval()
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(TEXT * (options.tokens // len(TEXT) + 1))[: options.tokens]
    times = [time.perf_counter()]
    findings = look(model, tokenizer, ids, "Not trained")
    times.append(time.perf_counter())
    write_report(findings, options.out, pictures=False)
    times.append(time.perf_counter())
    summary = write_report(findings, options.out)
    times.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(times)]
    pictures = seconds[2] - seconds[1]
    print(f"{len(ids)} tokens: looking {seconds[0]:.1f} s, page and data {seconds[1]:.1f} s, pictures {pictures:.1f} s")
    print(
        f"peak memory {(peak_memory(torch.device('cpu')) or 0) / 2**30:.2f} GiB, page {summary.page_bytes / 1e6:.1f} MB"
    )
    for what in summary.left_out:
        print(f"left out: {what}")
    open_page(options.out / "page.html")


def open_page(path: Path) -> None:
    """Time the page in a browser, if there is one."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        sys.exit("no browser, or no Playwright: the page is not timed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(3):
            page = browser.new_page()
            page.goto(path.resolve().as_uri())
            page.wait_for_selector("body[data-drawn=all]", state="attached")
            paint, drawn = page.evaluate("""async () => [
                performance.getEntriesByName("first-contentful-paint")[0].startTime, performance.now()]""")
            # What a hand waits for: from an arrow key to the next frame.
            key = page.evaluate("""async () => {
                const begin = performance.now();
                document.querySelector("#tokens button").dispatchEvent(
                    new KeyboardEvent("keydown", { key: "ArrowLeft", bubbles: true }));
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                return performance.now() - begin;
            }""")
            print(f"first paint after {paint:.0f} ms, all drawn after {drawn:.0f} ms, a key takes {key:.0f} ms")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
