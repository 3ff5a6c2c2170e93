# A map of three features.
cat >/srv/demo.map <<'MAP_FILE'
MAP
  NAME "demo"
  SIZE 200 100
  EXTENT 0 0 200 100
  IMAGETYPE PNG
  IMAGECOLOR 250 250 240
  WEB
    TEMPLATE "/srv/demo.html"
    METADATA
      "wms_title" "Demo"
      "wms_onlineresource" "http://www.example.org:8080/cgi-bin/mapserv"
      "wms_srs" "EPSG:4326"
      "wms_enable_request" "*"
    END
  END
  PROJECTION
    "init=epsg:4326"
  END
  LAYER
    NAME "land"
    TYPE POLYGON
    STATUS ON
    TEMPLATE "/srv/feature.html"
    METADATA
      "wms_title" "Land"
    END
    FEATURE
      POINTS 20 20 180 30 150 90 30 80 20 20 END
    END
    CLASS
      STYLE
        COLOR 120 180 90
        OUTLINECOLOR 20 60 20
        WIDTH 2
      END
    END
  END
END
MAP_FILE
printf '<!-- MapServer Template -->\n<p>[mapext] [img]</p>\n' >/srv/demo.html
printf '<!-- MapServer Template -->\n<p>[shpidx]</p>\n' >/srv/feature.html
