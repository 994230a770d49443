lock:
	uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-emit-index-url --no-header -q pyproject.toml -o deploy/requirements.lock
