"""Metrics of engines: how many requests each has."""

import pytest

from bayplan.inference.engines import requests_in


@pytest.mark.parametrize(
    ("text", "want"),
    [
        pytest.param(
            "# TYPE vllm:num_requests_running gauge\n"
            'vllm:num_requests_running{engine="0",model_name="a{b}"} 3.0\n'
            'vllm:num_requests_waiting{engine="0",model_name="a{b}"} 2.0\n'
            'vllm:num_requests_swapped{model_name="a"} 7.0\n',
            5,
            id="vLLM",
        ),
        pytest.param(
            'sglang:num_running_reqs{model_name="a"} 1\nsglang:num_queue_reqs{model_name="a"} 0\n',
            1,
            id="SGLang",
        ),
        pytest.param("tgi_queue_size 4\ntgi_batch_current_size 0 1700000000\n", 4, id="TGI"),
        pytest.param("vllm:num_requests_running 0\n", 0, id="nothing to do"),
        pytest.param("up 1\n", None, id="an engine that is not known"),
        pytest.param("vllm:num_requests_running\n", None, id="half a line"),
        pytest.param("vllm:num_requests_running much\n", None, id="no number"),
        pytest.param("vllm:num_requests_running +Inf\n", None, id="infinitely many"),
        pytest.param("vllm:num_requests_running NaN\n", None, id="NaN"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_requests_in_an_engine(text: str, want: int | None) -> None:
    """An engine that is taken for idle is deleted with requests in it."""
    assert requests_in(text) == want
