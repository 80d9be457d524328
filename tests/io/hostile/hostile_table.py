"""All cases of hostile files, each once for each format."""

import archive_cases
import manifest_cases
import pickle_cases
import place_cases
import plan_cases
import safetensors_cases
import tensor_cases
from hostile_case import Case

ALL: list[tuple[Case, str]] = [
    (case, suffix)
    for module in (
        place_cases,
        safetensors_cases,
        archive_cases,
        pickle_cases,
        manifest_cases,
        plan_cases,
        tensor_cases,
    )
    for case in module.CASES
    for suffix in case.suffixes
]
NAMES = [f"{case.name} ({suffix[1:]})" for case, suffix in ALL]
