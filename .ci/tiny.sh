# shellcheck shell=bash
# Overrides that make configs/quickstart.py a run of half a minute. Sourced by other scripts.
# shellcheck disable=SC2034
tiny=(--data.train.0.name spoken_grammar/tiny --data.dev.0.name spoken_grammar/tiny
    --data.test.test.name spoken_grammar/tiny --data.text.0.name spoken_grammar/tiny
    --model.width 16 --model.features.mels 16 --parallel.cpu_devices 2 --training.steps 30 --training.text_first_steps 4
    --training.evaluate_every 10 --training.keep_latest 3)
