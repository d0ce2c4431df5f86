"""The same model behind MLServer, in its own process (`parallel_workers: 0`, its fastest for such a model)."""

import asyncio
import sys

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from river import linear_model, preprocessing

FEATURES = 14


class River(MLModel):
    async def load(self) -> bool:
        self._river = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        for number in range(2_000):
            row = {f"x{n}": float((number * 7919 + n) % 100) for n in range(FEATURES)}
            self._river.learn_one(row, row["x0"] > 50)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        names = [f"x{n}" for n in range(FEATURES)]
        events = [dict(zip(names, map(float, row), strict=True)) for row in rows]
        scores = [self._river.predict_proba_one(event)[True] for event in events]
        outputs = [NumpyCodec.encode_output("score", np.array(scores))]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main(port: int) -> None:
    settings = Settings(
        host="127.0.0.1", http_port=port, grpc_port=port + 1, metrics_endpoint=None, parallel_workers=0, debug=False
    )
    server = MLServer(settings)
    await server.start([ModelSettings(name="river", implementation=River)])


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
