"""A DEAP program as tutorials write it: individuals are a class of ``__main__`` with a ``.value``."""

import random
import sys

from deap import base, creator, tools

from hpo_spark import SerialExecutor, SparkExecutor
from hpo_spark.session import open_session


class LearningRate:
    def __init__(self, value=None):
        self.value = random.uniform(1e-4, 1e-1) if value is None else value

    def __repr__(self):
        return f"LearningRate({self.value!r})"


creator.create("FitnessMax", base.Fitness, weights=(1.0,))
creator.create("Individual", LearningRate, fitness=creator.FitnessMax)


def evaluate(individual):
    assert isinstance(individual, LearningRate)
    assert type(individual).__name__ == "Individual"
    return (-abs(individual.value - 0.03),)


def grow(individual):
    """Returns an individual: its class must survive the way back."""
    individual.value *= 1.5
    return individual


def mate(a, b):
    a.value, b.value = (a.value + 2 * b.value) / 3, (2 * a.value + b.value) / 3
    return a, b


def mutate(individual):
    individual.value *= random.uniform(0.8, 1.25)
    return (individual,)


def main(executor):
    random.seed(3)
    toolbox = base.Toolbox()
    toolbox.register("map", executor.map)
    toolbox.register("individual", creator.Individual)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("evaluate", evaluate)
    toolbox.register("mate", mate)
    toolbox.register("mutate", mutate)
    toolbox.register("select", tools.selTournament, tournsize=3)
    population = toolbox.population(n=10)
    for _ in range(4):
        offspring = [toolbox.clone(individual) for individual in toolbox.select(population, len(population))]
        for a, b in zip(offspring[::2], offspring[1::2], strict=True):
            if random.random() < 0.8:
                toolbox.mate(a, b)
                del a.fitness.values, b.fitness.values
        for individual in offspring:
            if random.random() < 0.2:
                toolbox.mutate(individual)
                del individual.fitness.values
        for individual, fitness in zip(offspring, toolbox.map(toolbox.evaluate, offspring), strict=True):
            individual.fitness.values = fitness
        population[:] = offspring
    before = vars(LearningRate).copy()
    grown = list(toolbox.map(grow, population))
    assert vars(LearningRate) == before  # the worker's copy of the class did not come back over ours
    assert all(type(individual) is creator.Individual for individual in grown)
    assert all(type(individual.fitness) is creator.FitnessMax for individual in grown)
    print([(individual.value, individual.fitness.values) for individual in grown])


if __name__ == "__main__":
    if sys.argv[1] == "spark":
        with open_session("learning-rate", "local[2]") as session, SparkExecutor(session) as pool:
            main(pool)
    else:
        main(SerialExecutor())
