from setuptools import setup

PACKAGE = "visarl_perception"

setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    license="Apache-2.0",
    zip_safe=True,
    entry_points={
        "console_scripts": [
            f"camera_node = {PACKAGE}.camera_node:main",
            f"saliency_node = {PACKAGE}.saliency_node:main",
            f"encoder_node = {PACKAGE}.encoder_node:main",
            f"perception_node = {PACKAGE}.perception_node:main",
        ]
    },
)
