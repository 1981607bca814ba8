"""Fixtures for the tests of `catalog`."""

import pytest
from catalog.app import app as catalog_app
from fastapi import FastAPI


@pytest.fixture
def service() -> str:
    return "catalog"


@pytest.fixture
def app() -> FastAPI:
    return catalog_app
