"""DEAP programs run on Spark as they stand: ``toolbox.map`` is swapped, and the populations are equal."""

import array
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deap import algorithms, base, benchmarks, cma, creator, tools

from hpo_spark import ProcessExecutor, SerialExecutor, SparkExecutor

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def toolbox():
    """A toolbox whose classes are new: each test defines its own individuals under the same names."""
    for name in ("Fitness", "Individual"):
        if hasattr(creator, name):
            delattr(creator, name)
    return base.Toolbox()


@pytest.fixture
def on_spark_as_in_series(spark, toolbox):
    """Run a program twice, serially and on Spark, and compare all that it returns."""

    def compare(program):
        outcomes = []
        with SparkExecutor(spark) as on_spark, SerialExecutor() as in_series:
            for executor in (in_series, on_spark):
                random.seed(11)
                np.random.seed(11)
                toolbox.register("map", executor.map)
                population, logbook = program(toolbox)
                assert all(type(individual) is creator.Individual for individual in population)
                genes = [individual if isinstance(individual, float) else list(individual) for individual in population]
                outcomes.append((genes, [individual.fitness.values for individual in population], logbook))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    return compare


def test_onemax_with_lists(toolbox, on_spark_as_in_series):
    creator.create("Fitness", base.Fitness, weights=(1.0,))
    creator.create("Individual", list, fitness=creator.Fitness)
    toolbox.register("bit", random.randint, 0, 1)
    toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.bit, 30)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("evaluate", lambda individual: (sum(individual),))
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.05)
    toolbox.register("select", tools.selTournament, tournsize=3)

    def program(toolbox):
        return algorithms.eaSimple(toolbox.population(n=30), toolbox, 0.5, 0.2, 5, verbose=False)

    _, fitnesses, _ = on_spark_as_in_series(program)
    assert max(fitnesses) > (20,)


@pytest.mark.parametrize("algorithm", [algorithms.eaMuPlusLambda, algorithms.eaMuCommaLambda])
@pytest.mark.parametrize("kind", ["list", "array", "ndarray"])
def test_a_float_sphere(toolbox, on_spark_as_in_series, algorithm, kind):
    creator.create("Fitness", base.Fitness, weights=(-1.0,))
    if kind == "list":
        creator.create("Individual", list, fitness=creator.Fitness)
    elif kind == "array":
        creator.create("Individual", array.array, typecode="d", fitness=creator.Fitness)
    else:
        creator.create("Individual", np.ndarray, fitness=creator.Fitness)
    toolbox.register("gene", random.uniform, -5, 5)
    toolbox.register("individual", tools.initRepeat, creator.Individual, toolbox.gene, 4)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("evaluate", sphere)
    toolbox.register("mate", tools.cxSimulatedBinary, eta=10)
    toolbox.register("mutate", tools.mutGaussian, mu=0, sigma=1, indpb=0.5)
    toolbox.register("select", tools.selBest)

    def program(toolbox):
        return algorithm(toolbox.population(n=8), toolbox, 8, 16, 0.5, 0.4, 4, verbose=False)

    on_spark_as_in_series(program)


def sphere(individual):
    return (float(sum(gene**2 for gene in individual)),)


def test_individuals_that_are_floats(toolbox, on_spark_as_in_series):
    creator.create("Fitness", base.Fitness, weights=(-1.0,))
    creator.create("Individual", float, fitness=creator.Fitness)

    def make():
        return creator.Individual(random.uniform(-5, 5))

    toolbox.register("population", tools.initRepeat, list, make)
    toolbox.register("evaluate", lambda individual: (abs(individual - 1.5),))
    toolbox.register("mate", lambda a, b: (creator.Individual((a + b) / 2), creator.Individual(2 * a - b)))
    toolbox.register("mutate", lambda a: (creator.Individual(a + random.gauss(0, 0.1)),))
    toolbox.register("select", tools.selTournament, tournsize=2)

    def program(toolbox):
        return algorithms.eaSimple(toolbox.population(n=12), toolbox, 0.5, 0.5, 4, verbose=False)

    on_spark_as_in_series(program)


def test_nsga2(toolbox, on_spark_as_in_series):
    creator.create("Fitness", base.Fitness, weights=(-1.0, -1.0))
    creator.create("Individual", list, fitness=creator.Fitness)
    bounds = {"low": 0.0, "up": 1.0, "eta": 20.0}
    toolbox.register("individual", tools.initRepeat, creator.Individual, random.random, 5)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("evaluate", benchmarks.zdt1)
    toolbox.register("mate", tools.cxSimulatedBinaryBounded, **bounds)
    toolbox.register("mutate", tools.mutPolynomialBounded, **bounds, indpb=0.2)
    toolbox.register("select", tools.selNSGA2)

    def program(toolbox):
        return algorithms.eaMuPlusLambda(toolbox.population(n=12), toolbox, 12, 12, 0.6, 0.4, 4, verbose=False)

    on_spark_as_in_series(program)


def test_cma_es_generates_and_updates(toolbox, on_spark_as_in_series):
    creator.create("Fitness", base.Fitness, weights=(-1.0,))
    creator.create("Individual", list, fitness=creator.Fitness)

    def program(toolbox):
        strategy = cma.Strategy(centroid=[5.0] * 4, sigma=2.0, lambda_=10)
        toolbox.register("generate", strategy.generate, creator.Individual)
        toolbox.register("update", strategy.update)
        toolbox.register("evaluate", benchmarks.sphere)
        return algorithms.eaGenerateUpdate(toolbox, ngen=8, verbose=False)

    on_spark_as_in_series(program)


def test_a_program_with_classes_of_main(tmp_path):
    outputs = [
        subprocess.run(
            [sys.executable, PROGRAMS / "learning_rate.py", where],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            check=False,
        )
        for where in ("serial", "spark")
    ]
    assert [output.returncode for output in outputs] == [0, 0], outputs[1].stderr
    assert outputs[0].stdout == outputs[1].stdout
    assert len(outputs[0].stdout) > 100


@pytest.mark.parametrize("base_class", [list, float, np.ndarray, array.array])
def test_individuals_come_back_as_the_class_that_went(toolbox, spark, base_class):
    creator.create("Fitness", base.Fitness, weights=(-1.0,))
    static = {"typecode": "d"} if base_class is array.array else {}
    creator.create("Individual", base_class, fitness=creator.Fitness, speed=list, static=3, **static)
    individual = creator.Individual(2.5 if base_class is float else [1.0, 2.0, 3.0])
    individual.fitness.values = (4.0,)
    individual.speed.append(7)
    with SparkExecutor(spark) as on_spark, ProcessExecutor(1) as in_process:
        backs = [*on_spark.map(copy_of, [individual]), on_spark.submit(copy_of, individual).result()]
        backs.append(in_process.submit(copy_of, individual).result())
    for back in backs:
        assert type(back) is creator.Individual
        assert type(back.fitness) is creator.Fitness
        assert (back.fitness.values, back.speed, back.static) == ((4.0,), [7], 3)
        assert back == individual if base_class is float else list(back) == list(individual)


def copy_of(individual):
    return individual


def test_a_class_that_is_created_anew_is_told_from_the_old(toolbox, spark):
    """A worker keeps what it has seen; the same name may mean another class in the next search."""
    with SparkExecutor(spark) as executor:
        for weights in ((1.0,), (-1.0, -1.0)):
            for name in ("Fitness", "Individual"):
                if hasattr(creator, name):
                    delattr(creator, name)
            creator.create("Fitness", base.Fitness, weights=weights)
            creator.create("Individual", list, fitness=creator.Fitness)
            assert list(executor.map(weights_of, [creator.Individual([1])] * 4)) == [weights] * 4


def weights_of(individual):
    return individual.fitness.weights
