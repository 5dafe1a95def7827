#!/usr/bin/env python3
"""Matmuls by one library, in turns with other programs: `product_worker.py LIBRARY THREADS FOLDER`.

LIBRARY is openblas, blis, mkl, onednn or pytorch-bf16; FOLDER is where install.sh unpacked Debian's packages. Requests on
standard input and answers on standard output are lines, as for `kernel-benchmark --products`:

    hello                    {"library": its name, version and kernels}
    prepare FORM M N K       fills the operands, runs once and checks some rows of the result
    run SECONDS              {"seconds": [one figure for each repetition]}

C[m,n] = A·B, plain and overwriting. forward: A [m,k], B [n,k] transposed; dX: A [m,k], B [k,n]; dW: A [k,m] transposed, B [k,n].
Operands and results are on huge pages if available, as ours are.
"""

import ctypes
import json
import mmap
import os
import sys
import time

import numpy


def zeros(shape, kind):
    """Like numpy.zeros, on huge pages."""
    huge_page, count = 1 << 21, int(numpy.prod(shape))
    # One more page on either side: every page that the array touches lies wholly in the region.
    region = mmap.mmap(-1, count * numpy.dtype(kind).itemsize + 2 * huge_page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    region.madvise(mmap.MADV_HUGEPAGE)
    return numpy.frombuffer(region, kind, count, huge_page).reshape(shape)


def cblas(library):
    """C, A and B as numpy arrays to a function that calls cblas_sgemm."""
    size, real, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    gemm = library.cblas_sgemm
    gemm.restype = None
    gemm.argtypes = [size] * 6 + [real, pointer, size, pointer, size, real, pointer, size]

    def product(form, m, n, k, a, b, c):
        plain, transposed, row_major = 111, 112, 101
        arguments = (row_major, transposed if form == "dW" else plain, transposed if form == "forward" else plain, m, n, k,
                     1.0, a.ctypes.data, a.shape[1], b.ctypes.data, b.shape[1], 0.0, c.ctypes.data, n)
        return lambda held=(a, b, c): gemm(*arguments)  # held: ctypes sees addresses only
    return product


def openblas(folder, threads):
    library = ctypes.CDLL(f"{folder}/openblas-pthread/libopenblas.so.0")
    library.openblas_set_num_threads(threads)
    library.openblas_get_config.restype = library.openblas_get_corename.restype = ctypes.c_char_p
    version = " ".join(library.openblas_get_config().decode().split()[:2])
    return f"{version}, kernels {library.openblas_get_corename().decode()}", cblas(library)


def blis(folder, threads):
    library = ctypes.CDLL(f"{folder}/blis-pthread/libblis.so.4")
    library.bli_thread_set_num_threads(ctypes.c_long(threads))
    library.bli_arch_string.restype = library.bli_info_get_version_str.restype = ctypes.c_char_p
    kernels = library.bli_arch_string(library.bli_arch_query_id()).decode()
    return f"BLIS {library.bli_info_get_version_str().decode()}, kernels {kernels}", cblas(library)


def pytorch(library, threads):
    import torch
    torch.set_num_threads(threads)
    torch.inference_mode().__enter__()
    build = torch.__config__.show().splitlines()
    name = next(line.split("-", 1)[1].strip() for line in build if ("oneAPI" if library == "mkl" else "MKL-DNN") in line)
    name = name.split(" for Intel")[0].split(" (Git")[0].replace("Intel(R) MKL-DNN", "oneDNN")

    def product(form, m, n, k, a, b, c):
        if library == "pytorch-bf16":
            a, b, c = (torch.from_numpy(zeros(x.shape, numpy.int16)).view(torch.bfloat16).copy_(torch.from_numpy(x)) for x in (a, b, c))
        else:
            a, b, c = map(torch.from_numpy, (a, b, c))
        a, b = a.t() if form == "dW" else a, b.t() if form == "forward" else b
        product.result = lambda: c.float().numpy()
        if library != "onednn":
            return lambda: torch.mm(a, b, out=c)
        # The operation that torch.compile makes of a Linear: the only way to oneDNN's float32 matmul.
        transposed, linear = b.t(), torch.ops.mkldnn._linear_pointwise
        product.result = lambda: linear(a, transposed, None, "none", [], "").numpy()
        return lambda: linear(a, transposed, None, "none", [], "")
    return f"PyTorch {torch.__version__}, {name}" + (", bf16" if library == "pytorch-bf16" else ""), product


def prepare(product, form, m, n, k):
    random = numpy.random.default_rng(1)
    shapes = (k, m) if form == "dW" else (m, k), (n, k) if form == "forward" else (k, n), (m, n)
    a, b, c = (zeros(shape, numpy.float32) for shape in shapes)
    for operand in (a, b):
        random.random(out=operand, dtype=numpy.float32)
        operand -= 0.5
    product.result = lambda: c
    run = product(form, m, n, k, a, b, c)
    run()
    rows = a.T[:4] if form == "dW" else a[:4]
    expected = rows.astype(numpy.float64) @ (b.T if form == "forward" else b)
    # Operands rounded to bf16 (8 bits) and the result err by 2^-9 each; a wrong layout errs by the size of the result.
    worst = numpy.abs(product.result()[:4] - expected).max()
    if not worst < 0.05 * k ** 0.5:
        sys.exit(f"product_worker: {form} {m}x{n}x{k} differs from the exact product by {worst}")
    return run


def main():
    library, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    name, product = {"openblas": openblas, "blis": blis}[library](folder, threads) if library in ("openblas", "blis") \
        else pytorch(library, threads)
    run = None
    for line in sys.stdin:
        words = line.split()
        answer = {}
        if words[0] == "hello":
            answer = {"library": name}
        elif words[0] == "prepare":
            run = prepare(product, words[1], *map(int, words[2:]))
        else:
            times, end = [], time.perf_counter() + float(words[1])
            while len(times) < 3 or time.perf_counter() < end:
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
            answer = {"seconds": times}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
