"""The encoder on the speech: bit-identical to the stock one at full length, and blind to its neighbours."""

import torch

from govor.families.whisper.forward import decode, encode
from govor.families.whisper.tiny import tiny


def mel(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(80, frames, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_at_3000_frames_the_encoder_is_the_stock_one_bit_for_bit() -> None:
    whisper = tiny()
    mels = [mel(3000, seed) for seed in range(2)]
    stock = whisper.module.model.encoder(torch.stack(mels)).last_hidden_state  # type: ignore[union-attr]
    assert torch.equal(encode(whisper.module, mels).padded, stock)


@torch.inference_mode()
def test_real_encoder_is_bit_identical_at_3000_frames(real_base) -> None:  # type: ignore[no-untyped-def]
    from govor.families.whisper.model import Whisper

    whisper = Whisper.load(real_base)
    item = mel(3000)
    stock = whisper.module.model.encoder(item[None]).last_hidden_state  # type: ignore[union-attr]
    assert torch.equal(encode(whisper.module, [item]).padded, stock)


@torch.inference_mode()
def test_a_clip_does_not_see_its_neighbours_whatever_their_lengths_and_order() -> None:
    whisper = tiny()
    mels = [mel(frames, seed) for seed, frames in enumerate((300, 150, 300, 800, 150))]
    together = encode(whisper.module, mels)
    assert together.lengths == [150, 75, 150, 400, 75]
    for row, item in enumerate(mels):
        alone = encode(whisper.module, [item]).padded[0]
        torch.testing.assert_close(together.padded[row, : together.lengths[row]], alone, atol=2e-6, rtol=1e-5)


@torch.inference_mode()
def test_the_decoder_does_not_see_padded_encoder_positions() -> None:
    whisper = tiny()
    mels = [mel(800, 1), mel(150, 2)]
    inputs = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(3))
    together = decode(whisper.module, inputs, encode(whisper.module, mels))
    for row in range(2):
        alone = decode(whisper.module, inputs[row : row + 1], encode(whisper.module, [mels[row]]))
        torch.testing.assert_close(together[row], alone[0], atol=5e-6, rtol=1e-5)


@torch.inference_mode()
def test_teacher_forcing_equals_the_stock_model_at_full_length() -> None:
    whisper = tiny()
    item = mel(3000)
    inputs = torch.randint(0, 200, (1, 12), generator=torch.Generator().manual_seed(3))
    stock = whisper.module(input_features=item[None], decoder_input_ids=inputs).logits
    ours = whisper.logits({"mels": [item], "inputs": inputs})
    torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-5)
