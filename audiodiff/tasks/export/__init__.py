"""Export of models to runtimes without this package: ONNX and torch.export."""
