"""`rewards/guardset_rewards.py` of an export: our own source of the rewards as one file that needs no guardset.

The file is cut from the modules that training here imports, so that there is no second text to keep equal.
"""

import ast
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getsource

REWARD_FILE = "rewards/guardset_rewards.py"

_ENTRIES = "guard.contract.reward_functions"  # whole; of the others what it needs
_SOURCES = ("storage.errors", "guard.contract.prompt", "guard.contract.rewards")
_HEAD = '''"""Rewards for TRL, verl and ms-swift, cut from guardset's own source. Needs only the standard library.

TRL: reward_funcs rewards.guardset_rewards.strict_reward (also rule_set_reward, pair_reward, paper_compat_reward).
verl: reward.custom_reward_function.path=rewards/guardset_rewards.py, name=compute_score.
ms-swift: --external_plugins rewards/guardset_rewards.py --reward_funcs guardset_strict.
"""
'''


def reward_file() -> str:
    """The file's text. Two modules must not define one name (ValueError)."""
    sources = {name: getsource(import_module(name)) for name in (*_SOURCES, _ENTRIES)}
    trees = {name: ast.parse(text) for name, text in sources.items()}
    defined: dict[str, ast.stmt] = {}
    for tree in trees.values():
        for node in tree.body:
            for name in _defines(node):
                if name in defined:
                    raise ValueError(f"{name} is defined by two modules of which the rewards are made")
                defined[name] = node
    kept, imports = _reached(trees, defined)
    lines = [_HEAD, "\n".join(imports)]
    for name, tree in trees.items():
        lines += [_text(sources[name], node) for node in tree.body if node in kept]
    return "\n\n\n".join(lines) + "\n"


def _reached(trees: Mapping[str, ast.Module], defined: Mapping[str, ast.stmt]) -> tuple[set[ast.stmt], list[str]]:
    """The statements that the entry points lead to, and the imports from elsewhere that these use."""
    todo = [node for node in trees[_ENTRIES].body if not _is_import(node) and not _is_docstring(node)]
    kept: set[ast.stmt] = set()
    used: set[str] = set()
    while todo:
        node = todo.pop()
        if node in kept:
            continue
        kept.add(node)
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        used |= names
        todo += [defined[name] for name in names if name in defined]
    found = set()
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.Import):
                found |= {f"import {a.name}" for a in node.names if a.name in used}
            if isinstance(node, ast.ImportFrom) and node.module not in trees:
                found |= {f"from {node.module} import {a.name}" for a in node.names if a.name in used}
    return kept, sorted(found, key=lambda line: (line.startswith("from"), line))


def _defines(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def _is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _text(source: str, node: ast.stmt) -> str:
    """A statement as it is written, with its decorators, what stands behind it and the comment above."""
    lines = source.splitlines()
    decorators = node.decorator_list if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
    first = min([node.lineno, *(d.lineno for d in decorators)]) - 1
    while lines[first - 1].startswith("#"):
        first -= 1
    return "\n".join(lines[first : node.end_lineno])
