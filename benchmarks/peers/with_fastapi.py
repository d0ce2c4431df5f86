"""The same model behind FastAPI: typed request, typed answer, one process; what most people would write."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model
from river import linear_model, preprocessing

FEATURES = 14
Event = create_model("Event", **{f"x{n}": (float, ...) for n in range(FEATURES)})
model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
for number in range(2_000):
    row = {f"x{n}": float((number * 7919 + n) % 100) for n in range(FEATURES)}
    model.learn_one(row, row["x0"] > 50)
app = FastAPI()


class Asked(BaseModel):
    instances: list[Event]


class Prediction(BaseModel):
    cls: bool
    score: float


class Answer(BaseModel):
    predictions: list[Prediction]


@app.post("/v1/predict", response_model=Answer)
async def predict(asked: Asked) -> Answer:
    found = []
    for event in asked.instances:
        score = model.predict_proba_one(event.model_dump())[True]
        found.append(Prediction(cls=score >= 0.5, score=score))
    return Answer(predictions=found)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="critical")
