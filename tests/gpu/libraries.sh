# For machines whose CUDA libraries came with Python packages: their folders behind LD_LIBRARY_PATH, for those libraries that the
# system does not have. To be sourced.
cuda_folders() {
  command -v python3 >/dev/null || return 0
  timeout -k 5 60 python3 - <<'END'
import ctypes.util
import importlib.util
import os
from pathlib import Path

package = importlib.util.find_spec("nvidia")
homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
for library in ("cublasLt", "cudnn", "nccl"):
    there = ctypes.util.find_library(library) or any(Path(home, "lib64").glob(f"lib{library}.so.*") for home in homes if home)
    roots = [] if there or not package else package.submodule_search_locations
    found = [file for root in roots for file in Path(root).rglob(f"lib{library}.so.*")]
    for folder in sorted({str(f.parent) for f in found})[:1]:
        print(folder)
END
}
for folder in $(cuda_folders); do export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder; done
