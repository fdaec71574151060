"""Generation held to a loop that runs each draw over the whole sequence produced, and recomputes all numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
import transformers

import caveat
from caveat.errors import InvalidArgumentError, NothingRandomError
from caveat.interop import generate
from caveat.interop._hugging_face_cache import CachedDraws
from caveat.interop._hugging_face_generate import Generation

from .hugging_face import SIZE, brute_force, made, same_law, tokenizer
from .hugging_face import TEXTS as ALL_TEXTS

pytestmark = pytest.mark.heavy
TEXTS = ALL_TEXTS[:3]
VOCABULARY = SIZE["vocab_size"]
N, NEW = 12, 6
RATE = 0.25


def gpt2(**settings: Any) -> Any:
    size = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    rates = {"embd_pdrop": RATE, "attn_pdrop": RATE, "resid_pdrop": RATE}
    rest = {"bos_token_id": 2, "eos_token_id": 3, "initializer_range": 0.4}
    return made(transformers.GPT2LMHeadModel, transformers.GPT2Config(**{**size, **rates, **rest, **settings}))


def t5(**settings: Any) -> Any:
    size = {"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    ends = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 3}
    rest = {**ends, "dropout_rate": RATE, "initializer_factor": 3}
    return made(transformers.T5ForConditionalGeneration, transformers.T5Config(**{**size, **rest, **settings}))


def bart(**settings: Any) -> Any:
    size = {"vocab_size": VOCABULARY, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "init_std": 0.4}
    more = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    rates = {"dropout": RATE, "attention_dropout": RATE, "activation_dropout": RATE}
    ends = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
    config = transformers.BartConfig(**{**size, **more, **rates, **ends, "max_position_embeddings": 64, **settings})
    return made(transformers.BartForConditionalGeneration, config)


SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "max_position_embeddings": 64, "initializer_range": 0.4, "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip
HIDDEN: dict[str, Any] = {"hidden_dropout": RATE, "attention_dropout": RATE}


def pair_of_berts() -> Any:
    both = [transformers.BertConfig(**SIZE, **more) for more in ({}, {"is_decoder": True, "add_cross_attention": True})]
    made_of = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*both)
    made_of.decoder_start_token_id, made_of.pad_token_id, made_of.eos_token_id = 2, 0, 3
    return made(transformers.EncoderDecoderModel, made_of)


def decoder(name: str, **settings: Any) -> Any:
    config = getattr(transformers, f"{name}Config")(**SMALL, **settings)
    return made(getattr(transformers, f"{name}ForCausalLM"), config)


OTHERS = {
    "rotary": lambda: decoder("Llama", attention_dropout=RATE),
    "sliding window": lambda: decoder("Mistral", attention_dropout=RATE, sliding_window=4, num_key_value_heads=1),
    "parallel": lambda: decoder("GPTNeoX", **HIDDEN),
    "heads in the batch": lambda: decoder("Bloom", **HIDDEN),
    "places from the mask": lambda: decoder("OPT", ffn_dim=24, word_embed_proj_dim=16, dropout=RATE),
    "two of one": pair_of_berts,
}
MODELS = {"gpt2": gpt2, "t5": t5, "bart": bart}


def forced(model: Any, prompt: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """The inputs at which a model scores ``tokens`` after ``prompt``, all at once."""
    before = tokens[None, :-1]
    if not model.config.is_encoder_decoder:
        return {"input_ids": torch.cat([prompt[None], before], 1)}
    start = torch.tensor([[model.generation_config.decoder_start_token_id]])
    return {"input_ids": prompt[None], "decoder_input_ids": torch.cat([start, before], 1)}


def scores(model: Any, length: int) -> Any:
    return lambda out: out.logits[:, -length:]


def prompts() -> list[Tensor]:
    return [torch.tensor(row) for row in tokenizer()(TEXTS)["input_ids"]]


def batch(side: str = "right") -> dict[str, Any]:
    return dict(tokenizer(padding_side=side)(TEXTS, padding=True, return_tensors="pt"))


@pytest.mark.parametrize("name", MODELS)
def test_every_number_is_that_of_each_draw_over_the_whole_sequence(name: str) -> None:
    """In float64: scores of untrained weights are so large that float32 rounds by more on some processors."""
    model = MODELS[name]().double()
    made_of = generate(model, batch(), n=N, seed=4, max_new_tokens=NEW)
    assert made_of.tokens.shape[0] == len(TEXTS)
    assert made_of.cached
    for row, prompt in enumerate(prompts()):
        length = int(made_of.lengths[row])
        tokens = made_of.tokens[row, :length]
        sampler = caveat.mc_dropout(model, output=caveat.Logits(select=scores(model, length)))
        log_p = caveat.draws(sampler, forced(model, prompt, tokens), N, seed=4)[:, 0].double().log_softmax(-1)
        p = log_p.exp().mean(0)  # (T, V)
        assert torch.equal(p.argmax(-1), tokens)
        total = -(p * p.log()).sum(-1)
        each = -(log_p.exp() * log_p).sum(-1).mean(0)
        chosen = log_p[:, torch.arange(length), tokens]  # (S, T)
        close = {"rtol": 1e-4, "atol": 1e-5}
        torch.testing.assert_close(made_of.entropy[row, :length], total, **close)
        torch.testing.assert_close(made_of.expected_entropy[row, :length], each, **close)
        torch.testing.assert_close(made_of.mutual_information[row, :length], total - each, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(made_of.draw_log_probabilities[:, row, :length], chosen, **close)
        torch.testing.assert_close(made_of.log_probability[row, :length], chosen.exp().mean(0).log(), **close)
        whole = chosen.sum(-1)  # (S,)
        mean = whole.exp().mean().log()
        torch.testing.assert_close(made_of.sequence_log_probability[row], mean, **close)
        torch.testing.assert_close(made_of.sequence_entropy[row], total.mean(), **close)
        mutual = (total - each).mean()
        torch.testing.assert_close(made_of.sequence_mutual_information[row], mutual, rtol=1e-3, atol=1e-5)
        reverse = (mean - whole.mean()) / length
        torch.testing.assert_close(made_of.sequence_reverse_mutual_information[row], reverse, rtol=1e-3, atol=1e-4)
        assert torch.equal(made_of.mask[row], torch.arange(made_of.tokens.shape[1]) < length)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_families_say_what_each_draw_says_of_the_whole(name: str) -> None:
    model, prompt = OTHERS[name](), prompts()[2]
    made_of = generate(model, {"input_ids": prompt[None]}, n=N, seed=4, max_new_tokens=NEW)
    assert made_of.cached == (name != "places from the mask")
    length = int(made_of.lengths[0])
    sampler = caveat.mc_dropout(model, output=caveat.Logits(select=scores(model, length)))
    log_p = caveat.draws(sampler, forced(model, prompt, made_of.tokens[0]), N, seed=4)[:, 0].double().log_softmax(-1)
    chosen = log_p[:, torch.arange(length), made_of.tokens[0]]
    torch.testing.assert_close(made_of.draw_log_probabilities[:, 0], chosen, rtol=1e-4, atol=1e-5)
    assert torch.equal(log_p.exp().mean(0).argmax(-1), made_of.tokens[0])


@pytest.mark.parametrize("name", MODELS)
def test_a_tokens_law_is_that_of_torchs_own_dropout(name: str) -> None:
    model, n = MODELS[name](), 1500
    prompt = prompts()[1]
    made_of = generate(model, {"input_ids": prompt[None]}, n=n, max_new_tokens=4)
    length = int(made_of.lengths[0])
    tokens = made_of.tokens[0, :length]
    inputs = forced(model, prompt, tokens)
    theirs = brute_force(model, lambda out: out.logits[:, -length:].log_softmax(-1), n, **inputs)[:, 0]
    same_law(made_of.draw_log_probabilities[:, 0, :length].exp(), theirs[:, torch.arange(length), tokens].exp())


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_sequence_does_not_depend_on_its_batch_or_padding(name: str) -> None:
    model = MODELS[name]()
    together = generate(model, batch(), n=N, max_new_tokens=NEW)
    left = generate(model, batch("left"), n=N, max_new_tokens=NEW, batch_size=2)
    same(left, together)
    texts = generate(model, TEXTS, tokenizer=tokenizer(), n=N, max_new_tokens=NEW)
    same(texts, together)
    assert texts.texts is not None
    assert texts.texts[1] == tokenizer().decode(texts.tokens[1, : texts.lengths[1]], skip_special_tokens=True)
    for row, prompt in enumerate(prompts()[:1]):
        alone = generate(model, {"input_ids": prompt[None]}, n=N, max_new_tokens=NEW)
        length = int(alone.lengths[0])
        assert torch.equal(alone.tokens[0], together.tokens[row, :length])
        torch.testing.assert_close(alone.entropy[0], together.entropy[row, :length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", ["fails", "differs"])
def test_a_cache_that_does_not_agree_is_left_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = t5()
    kept = generate(model, batch(), n=N, max_new_tokens=NEW)
    score = CachedDraws.score

    def wrong(self: CachedDraws, sequence: Tensor) -> Tensor:
        if fault == "fails":
            raise RuntimeError("no such cache")
        return score(self, sequence) + torch.linspace(0, 1, VOCABULARY)

    monkeypatch.setattr(CachedDraws, "score", wrong)
    anew = generate(model, batch(), n=N, max_new_tokens=NEW)
    assert kept.cached
    assert not anew.cached
    same(anew, kept)


@pytest.mark.parametrize("settings", [{"masks": "per_row"}, {"strata": 4}, {"backend": "loop"}, {"chunk": 5}])
def test_settings_of_the_sampler_hold(settings: dict[str, Any]) -> None:
    made_of = generate(gpt2(), batch(), n=N, max_new_tokens=4, **settings)
    assert made_of.cached == ("chunk" in settings)
    if "masks" not in settings and "strata" not in settings:
        same(made_of, generate(gpt2(), batch(), n=N, max_new_tokens=4))


def same(one: Generation, other: Generation) -> None:
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.lengths, other.lengths)
    torch.testing.assert_close(one.draw_log_probabilities, other.draw_log_probabilities, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.entropy, other.entropy, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_generating_changes_nothing_of_the_model(name: str) -> None:
    model = MODELS[name]()
    before, modes = {k: v.clone() for k, v in model.state_dict().items()}, [part.training for part in model.modules()]
    random = torch.get_rng_state()
    generate(model, batch(), n=4, max_new_tokens=3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert modes == [part.training for part in model.modules()]
    assert torch.equal(random, torch.get_rng_state())


def test_a_sequence_ends_at_its_end_token() -> None:
    model = gpt2()
    whole = generate(model, batch(), n=N, max_new_tokens=NEW)
    model.generation_config.eos_token_id = [int(whole.tokens[0, 2]), 3]
    model.generation_config.pad_token_id = 0
    cut = generate(model, batch(), n=N, max_new_tokens=NEW)
    at = whole.tokens[0].tolist().index(int(whole.tokens[0, 2]))
    assert int(cut.lengths[0]) == at + 1
    assert not cut.tokens[0, at + 1 :].any()
    assert not cut.entropy[0, at + 1 :].any()
    assert not cut.draw_log_probabilities[:, 0, at + 1 :].any()
    assert math.isclose(float(cut.entropy[0, at]), float(whole.entropy[0, at]), rel_tol=1e-6)


def test_adapters_generate() -> None:
    peft = pytest.importorskip("peft")
    where = {"target_modules": ["c_attn"], "fan_in_fan_out": True}
    settings = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_dropout=0.4, **where)
    calm = gpt2(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0)
    adapted = peft.get_peft_model(calm, settings).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    assert float(generate(adapted, batch(), n=N, max_new_tokens=3).mutual_information.sum()) > 0


def test_bad_calls_are_named() -> None:
    model = gpt2()
    with pytest.raises(InvalidArgumentError, match="AutoModelForCausalLM"):
        generate(made(transformers.BertForMaskedLM, transformers.BertConfig(**SIZE)), batch())
    with pytest.raises(InvalidArgumentError, match=r"torch\.nn\.Module"):
        generate("gpt2", batch())  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="tokenizer=tokenizer"):
        generate(model, TEXTS)
    with pytest.raises(InvalidArgumentError, match=r"max_new_tokens=50"):
        generate(model, batch(), max_new_tokens=60)
    long = {"input_ids": torch.full((1, 70), 5)}
    for decoder_or_both in (model, bart()):
        with pytest.raises(InvalidArgumentError, match="a shorter prompt"):
            generate(decoder_or_both, long)
    with pytest.raises(InvalidArgumentError, match="max_new_tokens=64"):
        generate(bart(), batch(), max_new_tokens=65)
    with pytest.raises(InvalidArgumentError, match="max_new_tokens must be"):
        generate(model, batch(), max_new_tokens=0)
    with pytest.raises(InvalidArgumentError, match="return_tensors"):
        generate(model, tokenizer()(TEXTS))
    with pytest.raises(InvalidArgumentError, match="n must be"):
        generate(model, batch(), n=0)
    with pytest.raises(NothingRandomError):
        generate(gpt2(embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0), batch(), n=4)
    lost = t5()
    lost.generation_config.decoder_start_token_id = lost.config.decoder_start_token_id = None
    with pytest.raises(InvalidArgumentError, match="decoder_start_token_id"):
        generate(lost, batch(), n=4)
