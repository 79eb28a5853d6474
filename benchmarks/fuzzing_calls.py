"""Calls of the Python interface, and right and wrong values for each kind of argument, as Python."""

from dataclasses import dataclass

SEPARATOR = " | "


@dataclass(frozen=True)
class Kind:
    """A kind of argument: right values, and wrong ones that must not be taken as if they were right."""

    right: str
    wrong: str = ""

    def rights(self) -> list[str]:
        """The right values."""
        return self.right.split(SEPARATOR)

    def wrongs(self) -> list[str]:
        """The wrong values; none where anything will do."""
        return self.wrong.split(SEPARATOR) if self.wrong else []


_JUNK = "object() | {} | [] | b'x' | lambda: 0 | float('nan') | ... | [None] | {'a': 1} | 1j | Exception | np.zeros(0)"
_NUMBER = _JUNK + SEPARATOR + "'x' | '' | [1] | float('inf') | '\\ud800' | torch.ones(2)"
KINDS = {
    "count": Kind(
        "1 | 2 | 5",
        "-1 | 1.5 | -10**30" + SEPARATOR + _NUMBER,
    ),
    "seed": Kind(
        "0 | 7 | 2**31",
        "-1 | 1.5" + SEPARATOR + _NUMBER,
    ),
    "share": Kind(
        "0.5 | 0.9 | 1 | 1.0",
        "-0.1 | 2 | 10**400" + SEPARATOR + _NUMBER,
    ),
    "positive": Kind(
        "0.5 | 1 | 2.0",
        "-1 | -10**400" + SEPARATOR + _NUMBER,
    ),
    "flag": Kind(
        "True | False",
    ),
    "text": Kind(
        "'the cat' | 'the' | 't' | 'the dog sat on the mat'[:8]",
        "5 | b'the' | [] | ['the'] | object() | {} | 1.5 | ('t',)",
    ),
    "stop": Kind(
        "'.' | ['.', 'x'] | []",
        "5 | [''] | '' | [5] | b'x' | object() | {'a': 1}",
    ),
    "when": Kind(
        "'crop' | 'stop'",
        "'x' | 5 | None | [] | object()",
    ),
    "ids": Kind(
        "[1, 2, 3] | [0] | (1, 2) | range(3) | np.array([1, 2]) | torch.tensor([1, 2])",
        "5 | [-1] | [10**6] | [2**70] | ['x'] | [None] | [1.5] | [[1]] | 'abc' | None | "
        "object() | [float('nan')] | torch.ones(2) | torch.ones(2, 2) | {'a': 1} | [True, 'x'] | "
        "iter(['x'])",
    ),
    "path": Kind(
        "'run' | Path('run')",
        "5 | None | [] | 'missing' | '' | b'run' | object() | 'text.txt' | '\\x00' | '\\ud800' | "
        "1.5 | 'x' * 5000 | '~$x'",
    ),
    "device": Kind(
        "'cpu' | 'auto'",
        "'x' | 5 | None | 'cuda:99999999999999999999' | [] | object() | 'CPU' | '' | 'cuda:-1'",
    ),
    "model": Kind(
        "run.model",
        "None | 5 | 'run' | object() | torch.nn.Linear(2, 2) | run | []",
    ),
    "run": Kind(
        "run",
        "None | 5 | 'run' | object() | run.model",
    ),
    "names": Kind(
        "'logits' | ['blocks.*.weights'] | ['*']",
        "'x' | ['x'] | 5 | None | [5] | object() | '[' | ['blocks.9.q'] | b'logits'",
    ),
    "recipe": Kind(
        "'small.toml' | Path('small.toml') | 'default'",
        "'missing' | 5 | None | '' | 'texts' | 'run' | object() | 'text.txt' | b'default' | "
        "'\\x00' | '~nobody/x' | '/dev/zero' | []",
    ),
    "overrides": Kind(
        "None | {} | {'training': {'max_steps': 3}}",
        "5 | 'x' | [1] | {'training': 5} | {'training': {'max_steps': 'x'}} | {'x': {}} | "
        "{5: {}} | {'model': {'n_inner': 10**25}} | {'training': {'max_steps': 10**400}} | "
        "{'training': {'learning_rate': 10**400}} | {'training': {'seed': float('nan')}} | "
        "{'data': {'source': [5]}} | {'training': {'device': 'cuda:' + '9' * 20}} | "
        "{'tokenizer': {'pattern': '('}}",
    ),
    "config": Kind(
        "TrainingConfig(max_steps=2, device='cpu')",
        "None | 5 | {} | {'max_steps': 2} | object() | 'x' | TrainingConfig",
    ),
    "shape": Kind(
        "ModelConfig(vocab_size=5, n_layer=1, n_head=1, n_embd=4, block_size=4)",
        "None | 5 | {} | object() | ModelConfig() | ModelConfig | 'gpt2'",
    ),
    "array": Kind(
        "np.arange(50) % 7 | np.arange(50, dtype=np.uint16) % 7",
        "5 | None | [] | 'x' | np.zeros(0) | np.zeros((5, 5)) | np.ones(50) * 0.5 | "
        "np.array(['x'] * 50) | object() | np.arange(1) | torch.ones(50)",
    ),
    "order": Kind(
        "'windows' | 'epochs'",
        "'x' | 5 | None | []",
    ),
    "documents": Kind(
        "None | np.array([0, 20])",
        "np.array([0, 99]) | np.array([20, 0]) | np.array([-5]) | 'x' | 5 | np.array([0.5]) | [[0]] | object()",
    ),
    "tokenizer": Kind(
        "char | bpe | word | byte",
    ),
    "batches": Kind(
        "Batches(np.arange(50) % 5, 4, 2)",
        "None | 5 | [] | object() | 'x' | lambda n: None | lambda n: (5, 5) | "
        "lambda n: (torch.ones(2, 4), torch.ones(2, 4)) | lambda n: (torch.zeros(2, 4).long(), )",
    ),
    "state": Kind(
        "tokenizer.state()",
        "None | 5 | {} | [] | 'x' | {**tokenizer.state(), 'x': 1} | "
        "dict.fromkeys(tokenizer.state()) | dict.fromkeys(tokenizer.state(), 5) | "
        "dict.fromkeys(tokenizer.state(), []) | dict.fromkeys(tokenizer.state(), 'x') | "
        "dict.fromkeys(tokenizer.state(), {}) | dict.fromkeys(tokenizer.state(), ['x', 5]) | "
        "object()",
    ),
    "out": Kind(
        "'made' | Path('made')",
        "5 | None | [] | '' | 'run' | 'missing/x\\x00' | object() | b'made'",
    ),
    "mode": Kind(
        "'auto' | 'eager'",
        "'x' | 5 | None | [] | 'graphs'",
    ),
    "weights": Kind(
        "'float32' | 'int8'",
        "'x' | 5 | None | []",
    ),
    "logprobs": Kind(
        "None | 0 | 2",
        "-1 | 'x' | 1.5 | [] | object() | 10**30",
    ),
    "sampling": Kind(
        "SamplingConfig(max_new_tokens=2)",
        "None | 5 | {} | {'max_new_tokens': 2} | object()",
    ),
    "vocab": Kind(
        "300 | 1000",
        "0 | -1 | 'x' | None | 1.5",
    ),
    "pattern": Kind(
        "'gpt2' | 'gpt4' | '\\\\w+|\\\\W'",
        "'(' | 5 | None | '(?:(?:(?:a{1000}){1000}){1000})' | [] | b'x' | '*'",
    ),
    "special": Kind(
        "('<|x|>',) | () | ['<|a|>', '<|b|>']",
        "5 | ('',) | [5] | {'x': -1} | {'x': 10**9} | {'x': 'y'} | ('<|x|>', '<|x|>') | None",
    ),
}
_SAMPLING = (
    "*temperature:positive *top_k:count *top_p:share *min_p:share *typical_p:share "
    "*repetition_penalty:positive *stop:stop *when_full:when"
)
CALLS = {
    "load": ("glassgpt.load({}).model", "path:path *device:device"),
    "generate": ("run.generate({})", "*prompt:text *seed:seed *crop_prompt:flag max_new_tokens:count " + _SAMPLING),
    "stream": ("list(run.stream({}))", "*prompt:text *seed:seed max_new_tokens:count *stop:stop"),
    "pieces": ("list(run.pieces({}))", "*prompt:text *seed:seed max_new_tokens:count *logprobs:logprobs"),
    "engine": (
        "run.engine({}).step()",
        "*slots:count *mode:mode *weights:weights *block_size:count *rotating:flag *tokens:count",
    ),
    "capture": ("glassgpt.capture({})", "model:model ids:ids wanted:names"),
    "inspect_run": ("glassgpt.inspect_run({}, pictures=False)", "run:run prompt:text out:out *crop:flag"),
    "load_recipe": ("glassgpt.load_recipe({})", "name:recipe *overrides:overrides"),
    "make_model": ("glassgpt.make_model({})", "config:shape"),
    "Trainer": ("list(glassgpt.Trainer({}))", "model:model batches:batches config:config"),
    "TrainingConfig": (
        "glassgpt.TrainingConfig({})",
        "max_steps:count *learning_rate:positive *seed:seed *device:device *beta1:share "
        "*batch_size:count *epochs:positive *max_seconds:positive",
    ),
    "ModelConfig": (
        "glassgpt.ModelConfig({})",
        "vocab_size:count *n_layer:count *n_head:count *block_size:count *n_inner:count "
        "*rope_base:positive *bias:flag *dropout:share",
    ),
    "SamplingConfig": ("SamplingConfig({})", "*max_new_tokens:count " + _SAMPLING),
    "Batches": (
        "Batches({})(1)",
        "ids:array block_size:count batch_size:count *seed:seed *order:order *stride:count *documents:documents",
    ),
    "Windows": (
        "list(Windows({}))",
        "ids:array block_size:count *batch_size:count *max_tokens:count *documents:documents",
    ),
    "as_token_array": ("as_token_array({})", "ids:ids vocab_size:vocab"),
    "encode": ("tokenizer.encode({})", "text:text"),
    "encode_special": ("tokenizer.encode_special({})", "text:text"),
    "decode": ("tokenizer.decode({})", "ids:ids"),
    "stream decoder": ("[tokenizer.stream().push(token) for token in {}]", "ids:ids"),
    "from_state": ("type(tokenizer).from_state({})", "state:state"),
    "load_tokenizer": ("load_tokenizer({})", "path:path"),
    "tokenizer.save": ("tokenizer.save({})", "path:out"),
    "CharTokenizer": ("CharTokenizer({})", "characters:text *unknown:flag"),
    "BPETokenizer": ("BPETokenizer(bpe.tokens, {})", "*pattern:pattern *special:special"),
    "Request": ("submit({})", "prompt:ids sampling:sampling *seed:seed *logprobs:logprobs"),
}
"""What is called, with {} for its arguments, and these with their kinds; those with * may be omitted."""


def arguments_of(name: str) -> dict[str, str]:
    """The arguments of a call, and their kinds."""
    return dict(word.split(":") for word in CALLS[name][1].split())


STRINGS = (
    "the cat",
    "",
    " ",
    "\n\n",
    "a" * 3000,
    "na\xefve \u6771\u4eac \U0001f389",
    "\x00\x01",
    "\ud800",
    "\r\n",
    "e\u0301",
    "<|endoftext|>",
    "<unk>",
    " " * 2000,
    "'s'S\u2019s",
    "\u2028\x85",
    "1234567890" * 30,
    "\U0010ffff",
    "\u0130\u0131\u017fK",
    "the\udcff",
)
