"""CLIP in the layouts of OpenAI, OpenCLIP and Hugging Face."""
