"""Runs attacks on batches of images and judges every candidate by its saved file.

Must not import attacks, model_zoo or reports.
"""
