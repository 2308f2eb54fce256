"""CLIP, as OpenAI, OpenCLIP and Hugging Face publish it."""
