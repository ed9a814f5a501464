"""How a model is prompted: what its chat template is told, by the options of a spec.

`hf:Qwen/Qwen3-8B?{thinking: false, system_prompt: "Answer briefly."}` sets variables of the
template (any that it has); `thinking` is the switch under whichever of its names the template
knows. The options become the template's defaults: whoever loads its tokenizer, or a student trained
from it, renders the same prompt. Those of an endpoint's model are sent to the server.
"""

import re
from typing import Any

from ded.errors import ModelError, near
from ded.models.spec import options_of
from ded.problems.texts import CLOSE, THINK

SYSTEM = "system_prompt"
SWITCHES = ("enable_thinking", "thinking")  # Qwen, GLM, SmolLM; DeepSeek, Granite
BOTH = "'?{thinking: true}' or '?{thinking: false}' behind its name, or in the parameter chat"


def variables(spec: str) -> dict[str, Any]:
    """What the options of a spec set in the template."""
    own = {name: value for name, value in options_of(spec).items() if name != SYSTEM}
    return dict.fromkeys(SWITCHES, own["thinking"]) | own if "thinking" in own else own


def turns(spec: str, prompt: str) -> list[dict[str, str]]:
    """The conversation that asks `prompt`, as an endpoint takes it."""
    system = options_of(spec).get(SYSTEM, "")
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt}]


def with_defaults(spec: str, template: str) -> str:
    """The template with the options of the spec as its defaults. ModelError for a variable that it
    does not have."""
    names = set(re.findall(r"\w+", template))
    for name in options_of(spec).keys() - {SYSTEM, "thinking"} - names:
        lack = f"its chat template has no variable {name!r}{near(name, names)}"
        raise ModelError(f"model {spec!r}: {lack}")
    defaults = [
        f"{{% if {name} is not defined or {name} is none %}}{_set(name, value)}{{% endif %}}\n"
        for name, value in variables(spec).items()
    ]
    if SYSTEM in options_of(spec):
        both = f"{{% set messages = {turns(spec, '')[:1]!r} + messages %}}"
        defaults.append(f"{{% if messages[0].role != 'system' %}}{both}{{% endif %}}\n")
    return "".join(defaults) + template


def _set(name: str, value: Any) -> str:
    return f"{{% set {name} = {value!r} %}}"


def fault(spec: str, tok: Any, question: str, prompt: str) -> str:
    """What is wrong with the prompt that the template makes of a question, "" for nothing: it lacks
    the question or the system prompt, lets no thinking begin, or begins it though switched off."""
    if question.strip() not in prompt:
        return "its chat template drops the question (it may want images); take another"
    if options_of(spec).get(SYSTEM, "").strip() not in prompt:
        return "its chat template drops the system prompt; leave system_prompt out"
    end = prompt.rstrip()[-len(CLOSE) :]
    if not end.endswith((THINK, CLOSE)):
        return ""
    # a student's template says it too
    on, off = (_set(SWITCHES[0], choice) in tok.chat_template for choice in (True, False))
    if end == CLOSE and not off:
        closes = "its chat template closes an empty think block in the prompt"
        if on:
            return f"{closes}, and has no switch that opens it: no thinking can be had"
        return f"{closes}: choose {BOTH}"
    if end != CLOSE and off:
        return "its chat template opens a think block, and has no switch: it always thinks"
    return ""
