"""Finding, loading and registering plugins (private: users ask a `Quantizer`, authors use `mono_quant.plugin_api`)."""
