"""Noise to picture as one ONNX graph: `start`, then a Scan of `step` over the noise of all steps.

Unrolled, DRAW's 64 steps would be thousands of nodes, and minutes of work for the exporter.
"""

from typing import Any


def picture(start: Any, step: Any, steps: int, classes: int) -> Any:
    """Return the graph of `picture` from those of `start` and `step` (onnx.ModelProto).

    noise (T, B, *latents), and label (B, classes) if there are classes -> image (B, C, H, W).
    """
    from onnx import compose, helper

    start, step = compose.add_prefix(start, "start/"), compose.add_prefix(step, "step/")
    first, body = start.graph, step.graph
    carried = [value.name.removeprefix("start/") for value in first.output]
    z = next(value for value in body.input if value.name == "step/z")
    latents, pixels = _sizes(z), _sizes(next(v for v in body.output if v.name == "step/image"))

    # p(z) of a step, where it is learned, is carried with the state.
    learned = "prior_mean" in carried
    state = {value.name: value for value in body.input if value is not z}
    inputs = [
        state.get(f"step/{name}") or _float(f"prior/{name}", "B", *latents) for name in carried
    ]
    known = {value.name: value for value in body.output}
    outputs = [known.get(f"step/new_{name}") or known[f"step/{name}"] for name in carried]
    draw = [helper.make_node("Identity", ["eps"], ["step/z"])]
    if learned:
        draw = [
            helper.make_node("Exp", ["prior/prior_log_sigma"], ["prior/sigma"]),
            helper.make_node("Mul", ["prior/sigma", "eps"], ["prior/offset"]),
            helper.make_node("Add", ["prior/prior_mean", "prior/offset"], ["step/z"]),
        ]
    once = helper.make_graph(
        [*draw, *body.node],
        "step",
        [*inputs, _float("eps", "B", *latents)],
        [*outputs, known["step/image"]],
    )

    label = [helper.make_node("Identity", ["label"], ["start/label"])]
    if not classes:
        label = [
            helper.make_node("Shape", ["noise"], ["batch"], start=1, end=2),
            helper.make_node("Constant", [], ["none"], value_ints=[0]),
            helper.make_node("Concat", ["batch", "none"], ["width 0"], axis=0),
            helper.make_node("ConstantOfShape", ["width 0"], ["start/label"]),
        ]
    scan = helper.make_node(
        "Scan",
        [f"start/{name}" for name in carried] + ["noise"],
        [f"last/{name}" for name in carried] + ["images"],
        body=once,
        num_scan_inputs=1,
    )
    last = [
        helper.make_node("Constant", [], ["minus one"], value_int=-1),
        helper.make_node("Gather", ["images", "minus one"], ["image"], axis=0),
    ]
    taken = [_float("noise", steps, "B", *latents)]
    graph = helper.make_graph(
        [*label, *first.node, scan, *last],
        "picture",
        [*taken, _float("label", "B", classes)] if classes else taken,
        [_float("image", "B", *pixels)],
        [*first.initializer, *body.initializer],
    )
    versions = {v.domain: v for model in (start, step) for v in model.opset_import}
    return helper.make_model(
        graph,
        opset_imports=list(versions.values()),
        functions=[*start.functions, *step.functions],
        ir_version=step.ir_version,
    )


def _sizes(value: Any) -> list[int]:
    """The sizes of a value without its batch."""
    return [d.dim_value for d in value.type.tensor_type.shape.dim][1:]


def _float(name: str, *shape: int | str) -> Any:
    from onnx import TensorProto, helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
