"""The bundled model files."""
