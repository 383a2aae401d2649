from setuptools import setup

PACKAGE = "visarl_teleop"

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
            f"teleop_node = {PACKAGE}.teleop_node:main",
            f"recorder_node = {PACKAGE}.recorder_node:main",
        ]
    },
)
