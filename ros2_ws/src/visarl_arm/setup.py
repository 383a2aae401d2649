from setuptools import setup

PACKAGE = "visarl_arm"

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
            f"arm_node = {PACKAGE}.arm_node:main",
            f"sim_node = {PACKAGE}.sim_node:main",
            f"watchdog_node = {PACKAGE}.watchdog_node:main",
        ]
    },
)
