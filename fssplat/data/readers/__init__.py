"""What has a person marked in these pictures? One module per layout, one record for all.

No general library reads the layouts here. `supervision` has no reader for LabelMe, CVAT masks and
Label Studio, and needs OpenCV; `datumaro` brings its own data model and more than twenty packages.
Both report a damaged file by a traceback. pycocotools draws polygons and decodes COCO's runs.
"""
