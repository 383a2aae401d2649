"""The ROS 2 side of the library: what the nodes and the tools around the graph share."""
