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

  On the GPUs of others: the model is a path below their model folder; the same command again comes back to the search:
    lora-rates search --coordinator https://host:50051 --token-file token.txt \\
      --pretrained_model_name_or_path sd_xl_base_1.0.safetensors --network_weights style.safetensors \\
      --train_data_dir pictures

  Pictures on the way, OUTPUT_DIR/sample/NAME_STEP_PLACE_SEED.png:
    lora-rates search ... --sample_prompts prompts.txt --sample_at_first --sample_every_n_steps 50

    # prompts.txt: a prompt a line; --n what to avoid, --w and --h the size [default: --resolution], --d the seed
    # [default: --seed], --l the guidance's scale [default: 7.5], --s Euler's steps [default: 30]
    a photo of sks person --n blurry, low quality --w 1024 --h 768 --d 1 --l 6 --s 28

  After Ctrl-C, to the same numbers as without it: the same command line, and
    lora-rates search ... --resume

Flags take a value too, to undo what the file says: --enable_bucket false.
The results are OUTPUT_DIR/NAME.safetensors (one tensor, `weights`: 20 rates for each network) and
OUTPUT_DIR/NAME.json; with --validation_split also NAME-best.safetensors, the rates of the lowest held-out loss. A
line for sd-webui-lora-block-weight is printed for each network.
Exit codes: 0 finished, 1 a file, device or coordinator failed, 2 the command line makes no sense, 130 interrupted.";

/// What `lora-rates sweep --help` ends with.
pub const SWEEP_EXAMPLES: &str = "\
Examples:
  Which of three networks are needed, and how dear should rates be? 21 searches on all GPUs of this machine:
    lora-rates sweep --pretrained_model_name_or_path sd_xl_base_1.0.safetensors \\
      --network_weights character.safetensors style.safetensors light.safetensors --train_data_dir pictures \\
      --validation_split 0.2 --application_loss_weights 0.00001 0.0001 0.001 --subsets all singles pairs

The grid is the product of the lists. The searches share the workers evenly; the same command again comes back to those
that are there. At the end a table compares the lowest held-out loss of each with the sum of its rates' sizes; * marks
the Pareto front: no other search has both a lower loss and a lower sum. OUTPUT_DIR/NAME-sweep.csv has the table,
OUTPUT_DIR/NAME-sweep.json the rates too. Options are those of `lora-rates search`.";
