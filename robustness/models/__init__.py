"""The audited model: loading, scaling, output layer, layers and identity, behind `Classifier`.

Must not import attacks, engine, runs or reports.
"""
