from __future__ import annotations

import math

import pytest
import torch

from visarl.config import PolicyConfig
from visarl.models.lstm_policy import ENSEMBLE_RATE, Doer, LSTMPolicy


@pytest.mark.parametrize(("horizon", "head"), [(1, "step"), (4, "step"), (4, "chunk")])
def test_steps_one_by_one_equal_the_whole_episode(horizon, head):
    torch.manual_seed(0)
    policy = LSTMPolicy(PolicyConfig(horizon=horizon, head=head), state_dim=5, action_dim=7)
    states = torch.randn(2, 12, 5)
    whole, _ = policy(states)
    assert whole.shape == (2, 12, horizon, 7)
    hidden, steps = None, []
    for t in range(12):
        step, hidden = policy(states[:, t : t + 1], hidden)
        steps.append(step)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, atol=1e-6, rtol=1e-5)


def test_the_horizon_is_autoregressive():
    """The second action follows the first: both heads share weights and differ by the action fed back."""
    torch.manual_seed(0)
    policy = LSTMPolicy(PolicyConfig(horizon=3), 5, 7)
    actions, _ = policy(torch.randn(1, 1, 5))
    assert not torch.allclose(actions[0, 0, 0], actions[0, 0, 1])
    with torch.no_grad():
        policy.head[0].weight[:, -7:] = 0
    actions, _ = policy(torch.randn(1, 1, 5))
    torch.testing.assert_close(actions[0, 0, 0], actions[0, 0, 2])


def test_it_remembers():
    """The action at the end depends on the first state: a task that needs memory can be learnt."""
    torch.manual_seed(0)
    policy = LSTMPolicy(PolicyConfig(hidden=32), 1, 1)
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(60):
        cue = torch.randint(0, 2, (32, 1, 1)).float()
        states = torch.cat([cue, torch.zeros(32, 5, 1)], dim=1)
        loss = (policy(states)[0][:, -1, 0] - cue[:, 0]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.05


def test_what_is_done_is_what_the_chunks_say_of_the_present():
    torch.manual_seed(0)
    policy, horizon = LSTMPolicy(PolicyConfig(hidden=8, horizon=3, head="chunk"), 5, 2), 3
    states = torch.randn(6, 5)
    with torch.inference_mode():
        chunks = policy(states[None])[0][0]
    doer = Doer(policy)
    done = [doer.act(state) for state in states]
    for now in range(6):
        made = range(max(0, now - horizon + 1), now + 1)  # from the oldest that still speaks of now
        weights = [math.exp(-ENSEMBLE_RATE * age) for age, _ in enumerate(made)]
        expected = sum(w * chunks[then, now - then] for w, then in zip(weights, made, strict=True)) / sum(weights)
        torch.testing.assert_close(done[now], expected)
    doer.reset()
    torch.testing.assert_close(doer.act(states[0]), done[0])


def test_one_step_is_done_as_it_is_predicted():
    torch.manual_seed(0)
    policy, states = LSTMPolicy(PolicyConfig(hidden=8, horizon=3), 5, 2), torch.randn(4, 5)
    doer = Doer(policy)
    with torch.inference_mode():
        expected = policy(states[None])[0][0, :, 0]
    torch.testing.assert_close(torch.stack([doer.act(state) for state in states]), expected)
