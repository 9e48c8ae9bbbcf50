"""Trajectory balance by gfnx (JAX), as its baselines write it: a jitted loop of rollout, loss, gradient and Adam.

    python run_gfnx.py TASK BATCH              # inside gfnx's own environment; then as tasks.py says

Its hypergrid, rollout and trajectory log-probabilities, less its baselines' metrics and callbacks. It has no sets, so
there is an environment of them here, after its hypergrid and Ising model.
"""

from importlib.metadata import version

import chex
import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp
import optax
import tasks
from gfnx import spaces
from gfnx.base import BaseEnvParams, BaseEnvState, BaseRewardModule, BaseVecEnvironment
from gfnx.reward.hypergrid import GeneralHypergridRewardModule


@chex.dataclass(frozen=True)
class SetsState(BaseEnvState):
    state: chex.Array  # [N, D] of 0 and 1


@chex.dataclass(frozen=True)
class SetsParams(BaseEnvParams):
    reward_params: chex.Array = None


class Additive(BaseRewardModule):
    """log R(x) = Σ_{d∈x} f(d)."""

    def init(self, rng_key, dummy_state):
        return jax.random.normal(rng_key, dummy_state.state.shape[1:])

    def log_reward(self, state, env_params):
        return state.state @ env_params.reward_params

    def reward(self, state, env_params):
        return jnp.exp(self.log_reward(state, env_params))


class Sets(BaseVecEnvironment):
    """Subsets of ``size`` of ``elements`` by adding one element after the other, then stop."""

    def __init__(self, reward_module, elements, size):
        super().__init__(reward_module)
        self.elements, self.size = elements, size

    def get_init_state(self, num_envs):
        no, yes = jnp.zeros(num_envs, bool), jnp.ones(num_envs, bool)
        empty = jnp.zeros((num_envs, self.elements))
        return SetsState(state=empty, is_terminal=no, is_initial=yes, is_pad=no)

    def init(self, rng_key):
        return SetsParams(reward_params=self.reward_module.init(rng_key, self.get_init_state(1)))

    @property
    def max_steps_in_episode(self):
        return self.size + 1

    def transition(self, state, action, env_params):
        """Batched, which the base class allows: `cond` per sample would be no faster under `vmap`."""
        stop, done = action == self.elements, state.is_terminal
        added = state.state + jax.nn.one_hot(action, self.elements)  # a row of 0 for stop
        following = SetsState(
            state=jnp.where(done[:, None], state.state, added),
            is_terminal=done | stop,
            is_initial=jnp.zeros_like(done),
            is_pad=done,
        )
        return following, following.is_terminal, {}

    def get_obs(self, state, env_params):
        return state.state

    def get_invalid_mask(self, state, env_params):
        full = (state.state.sum(-1) >= self.size)[:, None]
        return jnp.concatenate([(state.state > 0) | full, ~full], -1)

    def get_invalid_backward_mask(self, state, env_params):
        first = jnp.arange(self.elements) > 0  # undoing stop is certain: one valid action
        return jnp.where(state.is_terminal[:, None], first, state.state == 0)

    def get_backward_action(self, state, forward_action, next_state, env_params):
        return jnp.where(forward_action == self.elements, 0, forward_action)

    def get_forward_action(self, state, backward_action, prev_state, env_params):
        return jnp.where(state.is_terminal, self.elements, backward_action)

    def _single_transition(self, state, action, env_params):
        raise NotImplementedError("transition is batched")

    def _single_backward_transition(self, state, backward_action, env_params):
        raise NotImplementedError("nothing here goes backwards")

    name = property(lambda self: "sets")
    action_space = property(lambda self: spaces.Discrete(self.elements + 1))
    backward_action_space = property(lambda self: spaces.Discrete(self.elements))
    observation_space = property(lambda self: spaces.Box(0, 1, (self.elements,)))
    state_space = property(lambda self: spaces.Dict({"state": self.observation_space}))


def environment(task):
    size = tasks.TASKS[task]
    if "side" in size:
        reward = GeneralHypergridRewardModule(**tasks.REWARD)
        return gfnx.environment.HypergridEnvironment(reward, dim=size["dimensions"], side=size["side"])
    return Sets(Additive(), size["elements"], size["size"])


def contender(task, batch):
    env = environment(task)
    env_params = env.init(jax.random.PRNGKey(0))
    adam = {name: optax.adam(rate) for name, rate in (("policy", tasks.LR), ("log_z", tasks.LOG_Z_LR))}
    optimizer = optax.multi_transform(adam, lambda tree: {name: name for name in tree})

    def network(key):
        return eqx.nn.MLP(
            env.observation_space.shape[0],
            env.action_space.n,
            tasks.HIDDEN,
            tasks.LAYERS,
            activation=jax.nn.leaky_relu,
            key=key,
        )

    static = eqx.partition(network(jax.random.PRNGKey(0)), eqx.is_array)[1]

    def policy(key, obs, params):
        logits = jax.vmap(eqx.combine(params, static))(obs)
        backward = jnp.zeros((*logits.shape[:-1], env.backward_action_space.n))
        return logits, {"forward_logits": logits, "backward_logits": backward}

    def loss(params, trajectories):
        info = jax.vmap(lambda obs: policy(None, obs, params["policy"])[1])(trajectories.obs)
        trajectories = trajectories.replace(info=info)
        log_pf, log_pb = gfnx.utils.forward_trajectory_log_probs(env, trajectories, env_params)
        log_reward = jnp.where(trajectories.pad, 0.0, trajectories.log_gfn_reward).sum(1)
        return jnp.square(params["log_z"] + log_pf - log_pb - log_reward).mean()

    def step(_, carry):
        key, params, state, _ = carry
        key, sampling = jax.random.split(key)
        trajectories, about = gfnx.utils.forward_rollout(
            sampling, batch, policy, params["policy"], env, env_params
        )
        gradient = jax.grad(loss)(params, trajectories)
        updates, state = optimizer.update(gradient, state, params)
        return key, optax.apply_updates(params, updates), state, about["trajectory_length"]

    many = jax.jit(lambda carry, count: jax.lax.fori_loop(0, count, step, carry))

    def begin(seed):
        key, first = jax.random.split(jax.random.PRNGKey(seed))
        params = {"policy": eqx.filter(network(first), eqx.is_array), "log_z": jnp.zeros(())}
        carry = (key, params, optimizer.init(params), jnp.zeros(batch, int))

        def run(iterations):
            nonlocal carry
            carry = jax.block_until_ready(many(carry, iterations))

        return run, lambda: {"log_z": carry[1]["log_z"].item(), "mean_length": carry[3].mean().item()}

    return begin, {
        "versions": {name: version(name) for name in ("gfnx", "jax", "jaxlib", "equinox", "optax")}
    }


if __name__ == "__main__":
    tasks.serve(contender)
