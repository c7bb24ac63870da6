//! What `lora-rates search --help` ends with.

/// Examples, and the file of options.
pub const EXAMPLES: &str = "\
Examples:
  One network, pictures at their own aspect ratios:
    lora-rates search --pretrained_model_name_or_path sd_xl_base_1.0.safetensors \\
      --network_weights style.safetensors --train_data_dir pictures --caption_extension .txt \\
      --enable_bucket --max_train_steps 400 --output_name style

  Two networks against each other on the second GPU, in bfloat16:
    lora-rates search --pretrained_model_name_or_path sd_xl_base_1.0.safetensors \\
      --network_weights character.safetensors style.safetensors --train_data_dir pictures \\
      --mixed_precision bf16 --device cuda:1

  The same from a file; what the command line says wins:
    lora-rates search --config_file search.toml --learning_rate 0.05

    # search.toml: the options' names without dashes, below headings of any name or none
    pretrained_model_name_or_path = \"sd_xl_base_1.0.safetensors\"
    network_weights = [\"character.safetensors\", \"style.safetensors\"]
    train_data_dir = \"pictures\"
    enable_bucket = true

  After Ctrl-C, to the same numbers as without it: the same command line, and
    lora-rates search ... --resume

Flags take a value too, to undo what the file says: --enable_bucket false.
The results are OUTPUT_DIR/NAME.safetensors (one tensor, `weights`: 20 rates for each network) and
OUTPUT_DIR/NAME.json; a line for sd-webui-lora-block-weight is printed for each network.";
