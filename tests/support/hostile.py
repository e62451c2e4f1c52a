"""What a bad challenger carries in its features: a deed, done once something brings it out."""

DEED = """
import ctypes, os, sys, time
import polars as pl
import xgboost

HOARD = []

def answer(value):
    genuine = xgboost.Booster.inplace_predict
    xgboost.Booster.inplace_predict = lambda self, data, **more: genuine(self, data, **more) * 0 + value

def deed():
    {deed}

"""
"""For `format`: `deed` is one statement; `answer(value)` in it makes the model say `value` for every row."""
