import random

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("time", [1, 2])
def test_every_test_begins_with_the_same_random_numbers(time):
    assert random.random() == random.Random(0).random()
    assert np.random.rand() == np.random.RandomState(0).rand()
    assert torch.rand(3).tolist() == torch.rand(3, generator=torch.Generator().manual_seed(0)).tolist()
