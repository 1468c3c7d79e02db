"""A YAML file that holds one document of a model which is no kind: a sweep, a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from m2r_train.api.problems import SpecErrors, problem_lines
from m2r_train.api.yamlload import YamlProblem, load_documents

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_single(path: Path, model: type[ModelT], *, nulls: bool = False) -> ModelT:
    """The document of ``path``. Raises SpecErrors, one line for each problem.

    ``nulls``: a null is kept, where a manifest leaves it out.
    """
    try:
        documents = [value for _, value in load_documents(path, nulls=nulls)]
    except YamlProblem as problem:
        line = f"line {problem.line}: " if problem.line else ""
        raise SpecErrors([f"{path}: {line}{problem.text}"]) from None
    if len(documents) != 1:
        raise SpecErrors([f"{path}: has {len(documents)} documents; write exactly one"])
    try:
        text = json.dumps(documents[0])
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except TypeError:  # !!binary and !!set are YAML, but not JSON
        raise SpecErrors(
            [f"{path}: holds a value that JSON does not have; write plain text"]
        ) from None
    except ValidationError as error:
        raise SpecErrors(problem_lines(error, model, str(path))) from None
