"""Bundles: one published version of models, index, vocabularies and manifest.

``manifest`` describes a bundle, ``store`` keeps bundles on disk, ``index`` wraps FAISS and
``loaded`` answers with ONNX Runtime. Only ``index`` imports faiss and only ``loaded`` onnxruntime.
"""
