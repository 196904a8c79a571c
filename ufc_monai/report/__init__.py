"""Pictures and the report. Plain arrays and files in, PNG and HTML out; needs neither PyTorch nor MONAI."""
